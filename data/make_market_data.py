"""Generates ``market_data.csv``: one invented trading session of ten stocks, from a seed.

    python data/make_market_data.py > data/market_data.csv

The log price of each stock is a random walk with a drift that changes four times an hour, so that
moving averages have trends to follow.  The tickers are real, the prices are not.
"""

import argparse
import math
import random
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta

FIRST_PRICES = {
    "AAPL": 173.20,
    "KO": 41.85,
    "MSFT": 402.10,
    "NVDA": 96.44,
    "F": 12.73,
    "AMZN": 228.90,
    "XOM": 68.05,
    "META": 311.67,
    "JPM": 154.38,
    "INTC": 27.91,
}
SESSION_START = datetime(2025, 10, 1, 9, 30)
NOISE = 0.0003
"""Standard deviation of one tick's log return."""
TREND = 0.00015
"""Standard deviation of the drift per tick while a trend lasts."""
TREND_TICKS = 120
"""Mean length of a trend, in ticks of its symbol."""


def ticks(count: int, seed: int) -> Iterator[tuple[datetime, str, float]]:
    """Yield ``count`` ticks (time, symbol, price), mostly one per second, sometimes up to four."""
    rng = random.Random(seed)
    log_prices = {symbol: math.log(price) for symbol, price in FIRST_PRICES.items()}
    trends = dict.fromkeys(FIRST_PRICES, 0.0)
    moment, left = SESSION_START, 1
    for _ in range(count):
        if left == 0:
            moment += timedelta(seconds=1)
            left = rng.choices((1, 2, 3, 4), (80, 14, 4, 2))[0]
        left -= 1
        symbol = rng.choice(list(FIRST_PRICES))
        if rng.random() < 1 / TREND_TICKS:
            trends[symbol] = rng.gauss(0, TREND)
        # Mean reversion keeps prices within a few percent of the first ones.
        reversion = 0.002 * (math.log(FIRST_PRICES[symbol]) - log_prices[symbol])
        log_prices[symbol] += trends[symbol] + reversion + rng.gauss(0, NOISE)
        yield moment, symbol, math.exp(log_prices[symbol])


def main() -> None:
    """Write the file to standard output."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ticks", type=int, default=30_000)
    parser.add_argument("--seed", type=int, default=20251001)
    arguments = parser.parse_args()
    sys.stdout.write("timestamp,symbol,price\n")
    for moment, symbol, price in ticks(arguments.ticks, arguments.seed):
        sys.stdout.write(f"{moment:%Y-%m-%d %H:%M:%S},{symbol},{price:.2f}\n")


if __name__ == "__main__":
    main()
