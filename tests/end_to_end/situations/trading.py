"""Strategies, and expectations of what they trade."""

from tests.end_to_end.situations.model import COMPLETE, HASH, Situation

MINE = {"STRATEGY": "data/strategies/mine.py:Mine"}
RAISES_AT_100 = """
    seen = 0
    def on_tick(self, tick):
        self.seen += 1
        if self.seen == 100:
            raise ValueError("no price I like")
        return "HOLD"
"""


EXPECTATIONS = [
    Situation("all well", 0, COMPLETE, small=True),
    Situation(
        "every expectation is met",
        0,
        COMPLETE,
        {
            "EXPECT_ORDERS_MIN": "539",
            "EXPECT_FILLS_MIN": "539",
            "EXPECT_REFUSED_MAX": "0",
            "EXPECT_PNL_MIN": "0",
            "EXPECT_TRADES_HASH": HASH,
            "DEADLINE_S": "50",
        },
    ),
    Situation(
        "every order is refused",
        4,
        r"EXPECT_REFUSED_MAX: strategy had ([\d,]+) of \1 orders refused",
        {"RISK_CLIENT_QTY_MAX": "1"},
        small=True,
    ),
    Situation(
        "a daily loss stops the trading",
        4,
        r"EXPECT_REFUSED_MAX=0: strategy had [\d,]+ of [\d,]+ orders refused",
        {"RISK_CLIENT_DAILY_LOSS_MAX": "1", "EXPECT_REFUSED_MAX": "0"},
    ),
    Situation(
        "too few fills",
        4,
        "EXPECT_FILLS_MIN=600: strategy had 539 of 539 orders filled",
        {"EXPECT_FILLS_MIN": "600"},
    ),
    Situation(
        "the PnL is too low",
        4,
        r"EXPECT_PNL_MIN=5000\.50: strategy made [\d,]+\.\d\d\.",
        {"EXPECT_PNL_MIN": "5000.50"},
    ),
    Situation(
        "the PnL is too high",
        4,
        r"EXPECT_PNL_MAX=-1: strategy made [\d,]+\.\d\d\.",
        {"EXPECT_PNL_MAX": "-1"},
    ),
    Situation(
        "the trades are others",
        4,
        f"EXPECT_TRADES_HASH=0123456789abcdef: strategy has {HASH}",
        {"EXPECT_TRADES_HASH": "0123456789abcdef"},
    ),
    Situation(
        "the last line as JSON",
        4,
        r'^\{.*"exit_code": 4.*EXPECT_ORDERS_MIN=600.*\}$',
        {"EXPECT_ORDERS_MIN": "600", "LOG_FORMAT": "json"},
    ),
]

STRATEGIES = [
    Situation(
        "there is no such strategy file",
        1,
        r"no file data/strategies/nope\.py",
        {"STRATEGY": "data/strategies/nope.py:Mine"},
    ),
    Situation(
        "the strategy raises at its start",
        1,
        "KeyError: 'weights'",
        MINE,
        strategy="    def __init__(self, settings):\n        raise KeyError('weights')\n",
    ),
    Situation(
        "the strategy raises at tick 100",
        1,
        r"ValueError: no price I like \(\S*mine\.py:\d+\)",
        MINE,
        strategy=RAISES_AT_100,
        small=True,
    ),
    Situation(
        "the strategy hangs, with a deadline",
        3,
        "DEADLINE_S=6: not over within 6 s",
        {**MINE, "DEADLINE_S": "6"},
        strategy="    def on_tick(self, tick):\n        while True:\n            pass\n",
    ),
    Situation(
        "the strategy never trades",
        4,
        "EXPECT_ORDERS_MIN=1: strategy sent 0 orders",
        {**MINE, "EXPECT_ORDERS_MIN": "1"},
        strategy="    def on_tick(self, tick):\n        return 'HOLD'\n",
    ),
    Situation("two strategies", 0, COMPLETE, {"STRATEGIES": "2"}),
]
