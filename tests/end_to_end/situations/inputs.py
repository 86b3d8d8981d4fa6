"""Wrong settings and wrong data."""

from tests.end_to_end.situations.model import COMPLETE, Situation

HEADER = "timestamp,symbol,price\n"
GOOD_ROWS = "".join(f"2025-10-01 09:30:{s:02},AAPL,{100 + s}\n" for s in range(30))
FILE = {"DATA_PATH": "data/own.csv"}

REFUSED = "invalid settings"
SETTINGS = [
    Situation(
        "a setting of the gateway is wrong",
        2,
        "PACE=fast: must be max",
        {"PACE": "fast"},
        small=True,
    ),
    Situation(
        "a setting of the orderbook is wrong",
        2,
        "RING_CAPACITY_TICKS=5000: must be a power of two",
        {"RING_CAPACITY_TICKS": "5000"},
    ),
    Situation(
        "a setting of the strategy is wrong",
        2,
        "SHORT_WINDOW_TICKS=5: must be below LONG_WINDOW_TICKS=3",
        {"LONG_WINDOW_TICKS": "3"},
    ),
    Situation(
        "ports are published without a token",
        2,
        f"(gateway|order_manager): {REFUSED}: ORDER_TOKEN_FILE: required",
        {"PUBLISH_HOST": "0.0.0.0"},
        small=True,
    ),
    Situation(
        "the token file is too short",
        2,
        rf"(gateway|order_manager|strategy): {REFUSED}: ORDER_TOKEN_FILE=\S+: a token of 5 bytes",
        {"ORDER_TOKEN_FILE": "own/token"},
        token=("short", 0o644),
    ),
    Situation(
        "the containers may not read the token file",
        2,
        rf"(gateway|order_manager|strategy): {REFUSED}: ORDER_TOKEN_FILE=\S+: .*chown 10001",
        {"ORDER_TOKEN_FILE": "own/token"},
        token=("0123456789abcdef" * 4, 0o600),
    ),
    Situation("the run has no end", 2, "REPLAY=walk: never ends", {"REPLAY": "walk"}),
    Situation(
        "an expectation is no number",
        2,
        "EXPECT_PNL_MIN=much: must be an amount of money",
        {"EXPECT_PNL_MIN": "much"},
    ),
]

BAD = HEADER + GOOD_ROWS + "2025-10-01 09:31:00,AAPL,-1\n"
UNSORTED = HEADER + "2025-10-01 09:31:00,AAPL,99\n" + GOOD_ROWS
DATA = [
    Situation(
        "the data file is missing",
        1,
        "gateway: data/none.csv: No such file",
        {"DATA_PATH": "data/none.csv"},
        small=True,
    ),
    Situation(
        "a row is bad",
        1,
        r"gateway: data/own\.csv: 1 row malformed.*data/own\.csv:32: ",
        FILE,
        data=BAD,
    ),
    Situation(
        "a row is bad, and bad rows are skipped",
        0,
        COMPLETE,
        {**FILE, "SKIP_BAD_ROWS": "true"},
        data=BAD,
    ),
    Situation(
        "the header is wrong",
        1,
        r"gateway: data/own\.csv.*column",
        FILE,
        data="time,ticker,last\n" + GOOD_ROWS,
    ),
    Situation("the data file is empty", 1, r"gateway: data/own\.csv.*empty", FILE, data=" "),
    Situation(
        "rows are out of order",
        1,
        r"gateway: data/own\.csv: 1 row out of time order.*data/own\.csv:3: ",
        FILE,
        data=UNSORTED,
    ),
    Situation(
        "rows are out of order, and are sorted",
        0,
        COMPLETE,
        {**FILE, "SORT_ROWS": "true"},
        data=UNSORTED,
    ),
]
