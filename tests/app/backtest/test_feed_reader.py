"""Which sentiment a tick sees: the stack and the backtest against a plain reading of the files.

The plain reading knows the file's rows and the rule, and none of the code that joins them.
"""

import csv
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from app.backtest import replay as backtest
from app.backtest.outcome import Outcome, first_difference, of_backtest
from app.config.settings import Settings
from app.gateway import load_data
from app.market_data.sources.loader import open_feed
from tests.chaos.host import HostStack
from tests.support.paths import ROOT

pytestmark = pytest.mark.medium

SAMPLE = ROOT / "data" / "market_data.csv"
ROWS_PER_SECOND = 7
Trade = tuple[int, str, str]
"""Tick, side, symbol."""


def outcome_of(**changes: object) -> Outcome:
    """The outcome of a backtest."""
    settings = Settings(**{"replay": "once", **changes})  # type: ignore[arg-type]
    return of_backtest(backtest.run(settings, open_feed(settings)))


def trades(outcome: Outcome) -> list[Trade]:
    """What was ordered, and at which tick."""
    return [(line.tick, line.side, line.symbol) for line in outcome.orders]


def expected_trades(
    rows: list[list[str]], own: dict[int, int], timed: list[tuple[str, str, int]]
) -> list[Trade]:
    """The default strategy by hand.

    ``own``: sentiment that stands in a tick's own row; ``timed``: time, symbol and value of the
    rows of a separate file, which count from the first tick of their time or later.
    """
    prices: dict[str, list[Fraction]] = {}
    mood: dict[str, int] = {}
    side_of: dict[str, str] = {}
    waiting, made = [*timed], []
    for tick, (time, symbol, price, *_) in enumerate(rows):
        while waiting and waiting[0][0] <= time:
            _, told, value = waiting.pop(0)
            mood[told] = value
        if tick in own:
            mood[symbol] = own[tick]
        seen = prices.setdefault(symbol, [])
        seen.append(Fraction(Decimal(price)))
        if len(seen) < 20 or symbol not in mood:
            continue
        short, long = sum(seen[-5:]) / 5, sum(seen[-20:]) / 20
        for side, agreed in (
            ("BUY", short > long and mood[symbol] > 50),
            ("SELL", short < long and mood[symbol] < 50),
        ):
            if agreed and side_of.get(symbol) != side:
                side_of[symbol] = side
                made.append((tick, side, symbol))
    return made


def crowded(folder: Path, *, column: bool) -> tuple[Path, list[list[str]]]:
    """6,000 rows of the sample, several in a second; with a sentiment in most rows, or without."""
    with SAMPLE.open() as file:
        source = list(csv.reader(file))[1:6001]
    rows = []
    for at, (_, symbol, price) in enumerate(source):
        second = at // ROWS_PER_SECOND
        time = f"2025-10-01 09:{second // 60:02d}:{second % 60:02d}"
        mood = [str(at * 37 % 101) if at % 5 else ""] if column else []
        rows.append([time, symbol, price, *mood])
    path = folder / "crowded.csv"
    head = ["timestamp", "symbol", "price", *(["sentiment"] if column else [])]
    path.write_text("".join(",".join(row) + "\n" for row in [head, *rows]))
    return path, rows


def test_a_later_row_of_the_same_second_does_not_decide(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_text(
        "timestamp,symbol,price,sentiment\n"
        "2025-01-01 00:00:00,X,100,10\n"
        "2025-01-01 00:00:01,X,101,\n"  # rises; the sentiment known is still 10
        "2025-01-01 00:00:01,X,102,90\n"
    )
    windows = {"short_window_ticks": 1, "long_window_ticks": 2, "data_path": str(path)}
    assert trades(outcome_of(**windows)) == [(2, "BUY", "X")]
    with HostStack(tmp_path / "stack", **(windows | {"pace": "max"})) as stack:
        assert stack.wait(60) == 0, stack.tail(60)
        assert first_difference(stack.outcome(), outcome_of(**windows)) is None


@pytest.mark.parametrize("source", ["column", "seeded", "file"])
def test_trades_are_those_of_a_plain_reading(tmp_path: Path, source: str) -> None:
    path, rows = crowded(tmp_path, column=source == "column")
    settings: dict[str, object] = {"data_path": str(path)}
    own, timed = {}, []
    if source == "column":
        own = {tick: int(row[3]) for tick, row in enumerate(rows) if row[3]}
    elif source == "seeded":
        frames = load_data(path)[2]
        own = {10 * i: int(frame.split(b"*")[2]) for i, frame in enumerate(frames)}
    else:
        timed = [(row[0], row[1], at * 53 % 101) for at, row in enumerate(rows) if at % 3 == 1]
        sentiments = tmp_path / "sentiment.csv"
        lines = (f"{time},{symbol},{value}\n" for time, symbol, value in timed)
        sentiments.write_text("timestamp,symbol,sentiment\n" + "".join(lines))
        settings["sentiment_path"] = str(sentiments)
    ours = outcome_of(**settings)
    assert len(ours.orders) > 100
    assert trades(ours) == expected_trades(rows, own, timed)
    with HostStack(tmp_path / "stack", pace="max", **settings) as stack:
        assert stack.wait(60) == 0, stack.tail(60)
        assert first_difference(stack.outcome(), ours) is None
