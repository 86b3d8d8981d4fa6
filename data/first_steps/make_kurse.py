"""Generates ``kurse.csv``: forty invented days of two stocks, as a German spreadsheet exports them.

    python data/first_steps/make_kurse.py > data/first_steps/kurse.csv

Semicolons, day first, decimal commas, and column names of its own; the same bytes every time.
"""

import math
import random
from datetime import datetime, timedelta

FIRST_PRICES = {"SAP": 231.40, "BMW": 84.15}
FIRST_DAY = datetime(2025, 9, 1, 9, 0)
DAYS = 40
TICKS_A_DAY = 30
NOISE, TREND, TREND_TICKS = 0.003, 0.0006, 60


def main() -> None:
    """Write the file to standard output."""
    rng = random.Random(7)
    print("Zeitpunkt;Wertpapier;Kurs;Umsatz")
    logs = {symbol: math.log(price) for symbol, price in FIRST_PRICES.items()}
    trends = dict.fromkeys(FIRST_PRICES, 0.0)
    for day in range(DAYS):
        start = FIRST_DAY + timedelta(days=day + day // 5 * 2)  # Monday to Friday
        for tick in range(TICKS_A_DAY):
            moment = start + timedelta(minutes=17 * tick)
            for symbol in rng.sample(list(FIRST_PRICES), k=2):
                if rng.random() < 1 / TREND_TICKS:
                    trends[symbol] = rng.gauss(0, TREND)
                logs[symbol] += trends[symbol] + rng.gauss(0, NOISE)
                price = f"{math.exp(logs[symbol]):.2f}".replace(".", ",")
                print(f"{moment:%d.%m.%Y %H:%M};{symbol};{price};{rng.randrange(100, 9000)}")


if __name__ == "__main__":
    main()
