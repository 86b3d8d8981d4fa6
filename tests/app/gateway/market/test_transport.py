"""The market's state: each command by itself, and any sequence of them."""

from hypothesis import given
from hypothesis import strategies as st

from app.gateway.transport import Mode, Transport

PLAYS = Transport("1000/s")
STANDS = Transport("1000/s", paused=True)


def test_pause_and_resume() -> None:
    assert PLAYS.mode is Mode.PLAY
    assert PLAYS.pause() == STANDS
    assert STANDS.mode is Mode.PAUSED
    assert STANDS.resume() == PLAYS


def test_a_step_stands_still_after_it() -> None:
    for before in (PLAYS, STANDS):
        step = before.step(5, 100, 1000)
        assert step.mode is Mode.HURRY
        assert step.until == 105
        assert step.arrived() == STANDS


def test_steps_add_up_before_the_first_has_ended() -> None:
    assert STANDS.step(1, 100, 1000).step(1, 100, 1000).until == 102


def test_a_step_in_a_jump_that_goes_on_is_one_from_here() -> None:
    assert PLAYS.seek(500, 100).step(3, 200, 1000).until == 203


def test_a_step_ends_with_the_run() -> None:
    assert STANDS.step(10, 995, 1000).until == 1000


def test_a_jump_goes_on_as_before() -> None:
    assert PLAYS.seek(500, 100).arrived() == PLAYS
    assert STANDS.seek(500, 100).arrived() == STANDS
    assert STANDS.seek(100, 100) == STANDS


def test_a_pause_ends_a_jump_where_it_is() -> None:
    assert PLAYS.seek(500, 100).pause() == STANDS


def test_a_jump_may_be_told_what_comes_after_it() -> None:
    jump = STANDS.seek(500, 100)
    assert jump.resume().mode is Mode.HURRY
    assert jump.resume().arrived() == PLAYS
    assert jump.at_pace("60x").arrived() == Transport("60x", paused=True)


COMMANDS = st.one_of(
    st.just(("pause",)),
    st.just(("resume",)),
    st.tuples(st.just("step"), st.integers(1, 50)),
    st.tuples(st.just("at_pace"), st.sampled_from(["max", "5x", "10/s"])),
    st.tuples(st.just("seek"), st.integers(0, 100)),
)


@given(st.lists(COMMANDS, max_size=20), st.integers(0, 100))
def test_it_always_stands_still_or_gets_somewhere(
    commands: list[tuple[object, ...]], position: int
) -> None:
    """No sequence of commands leads to a jump without an end, or before the position."""
    state = PLAYS
    for name, *arguments in commands:
        if name == "step":
            state = state.step(int(str(arguments[0])), position, 100)
        elif name == "seek":
            tick = max(int(str(arguments[0])), position)
            state = state.seek(tick, position)
        else:
            state = getattr(state, str(name))(*arguments)
        assert state.until is None or position <= state.until <= 100
        assert (state.mode is Mode.HURRY) == (state.until is not None)
        assert state.arrived().mode is (Mode.PAUSED if state.paused else Mode.PLAY)
