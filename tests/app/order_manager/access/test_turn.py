"""What one batch takes of each session: all of a lone one, a fair share of several."""

import socket
from collections.abc import Iterator

import pytest

from app.order_manager.access import turn
from app.order_manager.access.turn import CROWD, FAIR_FRAMES, QUANTUM_MIN, SHARED_NS, Turn
from app.order_manager.session import Session

BATCH_MAX = 256


class Clock:
    """A clock that tests set."""

    now_ns = 10 * SHARED_NS

    def monotonic_ns(self) -> int:
        return self.now_ns


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(turn, "time", clock)
    return clock


@pytest.fixture
def sessions() -> Iterator[tuple[Session, Session]]:
    left, right = socket.socketpair()
    with left, right:
        yield Session(left, "10.0.0.1:1"), Session(right, "10.0.0.2:2")


def give(session: Session, count: int, frame: bytes = b"{}") -> None:
    session.frames.extend([frame] * count)
    session.held_bytes += count * (len(frame) + 1)


def take(turns: Turn, session: Session) -> int:
    turns.begin()
    return len(turns.take(session, BATCH_MAX, 0))


def test_a_session_alone_gets_the_whole_batch(
    clock: Clock, sessions: tuple[Session, Session]
) -> None:
    turns = Turn(4_000_000)
    give(sessions[0], 4000)
    assert take(turns, sessions[0]) == BATCH_MAX
    clock.now_ns += 10 * SHARED_NS
    assert take(turns, sessions[0]) == BATCH_MAX


def test_while_two_are_active_a_batch_takes_a_small_share_of_each(
    clock: Clock, sessions: tuple[Session, Session]
) -> None:
    greedy, modest = sessions
    turns = Turn(4_000_000)
    give(greedy, 4000)
    give(modest, 1)
    assert take(turns, modest) == 1
    for _ in range(5):
        clock.now_ns += SHARED_NS // 10
        assert take(turns, greedy) == FAIR_FRAMES
    clock.now_ns += SHARED_NS
    assert take(turns, greedy) == BATCH_MAX


def test_several_that_wait_share_the_batch(clock: Clock, sessions: tuple[Session, Session]) -> None:
    turns = Turn(4_000_000)
    give(sessions[0], 4000)
    turns.begin()
    turns.take(sessions[0], BATCH_MAX, 0)
    clock.now_ns += SHARED_NS
    turns.begin()
    assert len(turns.take(sessions[0], BATCH_MAX, 9)) == QUANTUM_MIN


def test_a_crowd_gets_larger_shares(clock: Clock, sessions: tuple[Session, Session]) -> None:
    turns = Turn(4_000_000)
    for session in sessions:
        give(session, 4000)
        take(turns, session)
    for others, share in ((0, FAIR_FRAMES), (CROWD - 1, FAIR_FRAMES), (CROWD, QUANTUM_MIN)):
        turns.begin()
        assert len(turns.take(sessions[0], BATCH_MAX, others)) == share


def test_the_bytes_that_a_session_holds_are_counted_down(
    clock: Clock, sessions: tuple[Session, Session]
) -> None:
    turns = Turn(4_000_000)
    give(sessions[0], 100, b"x" * 9)
    for _ in range(10):
        take(turns, sessions[0])
    assert not sessions[0].frames
    assert sessions[0].held_bytes == 0


@pytest.mark.parametrize("others", [False, True])
def test_one_query_a_batch_while_others_are_active(
    clock: Clock, sessions: tuple[Session, Session], others: bool
) -> None:
    asking, other = sessions
    turns = Turn(4_000_000)
    give(asking, 3)
    give(other, 1)
    turns.begin()
    turns.take(asking, BATCH_MAX, 0)
    clock.now_ns += SHARED_NS
    turns.begin()
    if others:
        turns.take(other, BATCH_MAX, 0)
    turns.begin()
    with turns.query():
        clock.now_ns += 1000
    assert turns.query_waits() is others
    turns.begin()
    assert not turns.query_waits()
