"""What the proof says at its end, and to people."""

import pytest

from app.backtest.proof.command import verdict
from app.backtest.proof.follower import CannotTell, Follower, State
from app.backtest.proof.matching import Difference
from app.config.settings import Settings

DIFFERENCE = Difference("strategy@1", 85, "qty", "10", "11")


@pytest.mark.parametrize(
    ("state", "incomplete", "code", "reason"),
    [
        (State(equal=3), "", 0, ""),
        (State(equal=3), "stopped by SIGINT before the end of the run", 3, "stopped by SIGINT"),
        (State(), "", 3, "no order to compare"),
        (State(note="no answer"), "", 3, "no answer"),
        (State(equal=3, difference=DIFFERENCE), "", 1, "order 85: qty: expected 10, seen 11"),
        (State(difference=DIFFERENCE), "stopped", 1, "order 85"),
    ],
)
def test_the_exit_code(state: State, incomplete: str, code: int, reason: str) -> None:
    found = verdict(state, incomplete)
    assert found[0] == code
    assert reason in found[1]
    assert bool(found[1]) == bool(code)


def test_the_line_for_people() -> None:
    state = State("run", 75_310, 1234, 1234, 1234, "9f3a11c2d08e7b54")
    assert str(state) == (
        "same trades: 1,234 of 1,234 orders equal, hash 9f3a11c2d08e7b54, tick 75,310"
    )
    red = state._replace(equal=1233, difference=DIFFERENCE, note="no shared memory")
    assert str(red) == (
        "DIFFERENT: strategy@1: order 85: qty: expected 10, seen 11; 1,233 of 1,234 orders equal "
        "(no shared memory)"
    )


def test_the_line_for_programs() -> None:
    found = State("run", 90, 5, 5, 4, "9f3a", DIFFERENCE).to_json()
    assert found == {
        "run": "run", "ticks": 90, "expected": 5, "seen": 5, "equal": 4, "hash": "9f3a", "note": "",
        "difference": {
            "client": "strategy@1", "id": 85, "tick": 84, "field": "qty", "expected": "10",
            "seen": "11",
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    "settings",
    [{"trading_mode": "live"}, {"ring_policy": "latest"}, {"sentiment_join": "arrival"}],
)
def test_what_cannot_be_proved(settings: dict[str, str]) -> None:
    with pytest.raises(CannotTell, match="=".join(next(iter(settings.items()))).split("=")[1]):
        Follower(Settings(**settings), None)  # type: ignore[arg-type]
