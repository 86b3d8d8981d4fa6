"""Which messages of a stream are applied."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.market_data.live.bus.batch import Kind, Message
from app.market_data.live.bus.intake import BatchIntake, Gap, Unusable


def stream() -> list[Message]:
    """A run of seven messages, places 1 to 7."""
    run = "r"
    return [
        Message(Kind.BEGIN, run, 1, 0, 0, 0),
        Message(Kind.TICKS, run, 1, 0, 3, 4),
        Message(Kind.TICKS, run, 1, 3, 1, 9),
        Message(Kind.MAP, run, 2, 4, 0, 9),
        Message(Kind.TICKS, run, 2, 4, 2, 12),
        Message(Kind.MAP, run, 4, 6, 0, 12),
        Message(Kind.END, run, 4, 6, 0, 12),
    ]


def feed(intake: BatchIntake, place: int, message: Message) -> bool:
    """What a session does; returns whether it was applied."""
    wanted = intake.wants(place, message)
    if wanted:
        intake.applied(place, message, 0)
    return wanted


def up_to(place: int) -> BatchIntake:
    intake = BatchIntake()
    for number, message in enumerate(stream()[:place], 1):
        assert feed(intake, number, message)
    return intake


@given(st.lists(st.integers(1, 7), max_size=60))
def test_whatever_is_delivered_each_message_is_applied_once_in_order(places: list[int]) -> None:
    """Duplicates, gaps and any order: after a gap the stream is asked again from there on."""
    intake, applied, gaps, messages = BatchIntake(), [], [], stream()
    for place in [*places, *range(1, 8)]:
        try:
            if feed(intake, place, messages[place - 1]):
                applied.append(place)
        except Gap as gap:
            gaps.append((gap.wanted, gap.got) == (intake.place + 1, place))
        except Unusable:
            gaps.append(not intake.run)  # it asked for the beginning, and got something else
    assert applied == list(range(1, 8))
    assert all(gaps)
    assert intake.ended
    assert (intake.seq, intake.map_version) == (6, 4)


@pytest.mark.parametrize(
    ("before", "message", "problem"),
    [
        (0, Message(Kind.TICKS, "r", 1, 0, 3, 4), "the beginning of run r is not in"),
        (2, Message(Kind.TICKS, "r", 1, 2, 1, 9), "message 3 begins with tick 2, not 3"),
        (2, Message(Kind.TICKS, "r", 1, 4, 1, 9), "message 3 begins with tick 4, not 3"),
        (2, Message(Kind.TICKS, "r", 2, 3, 1, 9), "message 3 is of map version 2 after version 1"),
        (4, Message(Kind.TICKS, "r", 1, 4, 1, 9), "message 5 is of map version 1 after version 2"),
        (4, Message(Kind.MAP, "r", 2, 4, 0, 9), "message 5 is of map version 2 after version 2"),
        (2, Message(Kind.TICKS, "q", 1, 3, 1, 9), "run q begins at message 3, before run r has"),
        (2, Message(Kind.BEGIN, "q", 1, 0, 0, 0), "run q begins at message 3, before run r has"),
        (2, Message(Kind.BEGIN, "r", 1, 3, 0, 0), "run r begins at message 3, before run r has"),
    ],
)
def test_a_stream_that_is_wrong_is_refused(before: int, message: Message, problem: str) -> None:
    intake = up_to(before)
    with pytest.raises(Unusable, match=problem):
        intake.wants(before + 1, message)
    assert intake.place == before


def test_what_follows_the_end_is_of_others() -> None:
    intake = up_to(7)
    assert not feed(intake, 8, Message(Kind.BEGIN, "q", 1, 0, 0, 0))
    assert intake.ended
    assert intake.run == "r"
