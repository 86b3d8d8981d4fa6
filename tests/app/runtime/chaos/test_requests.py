"""Requests for faults: whatever arrives is a fault within its bounds, or is refused."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.runtime.chaos.requests import (
    FAULTS,
    REQUEST_BYTES_MAX,
    SECONDS_MAX,
    BadRequest,
    Cut,
    Fault,
    Freeze,
    Kill,
    decode,
    encode,
    make,
)

SECONDS = st.floats(0.1, SECONDS_MAX)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.integers(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.just(Kill()) | st.builds(Freeze, SECONDS) | st.builds(Cut, SECONDS))
def test_a_fault_survives_the_way(fault: Fault) -> None:
    assert decode(encode(fault)) == fault
    assert len(encode(fault)) <= REQUEST_BYTES_MAX


def is_fault(data: bytes) -> bool:
    """Read by hand: exactly these members, within these bounds."""
    try:
        found = json.loads(data, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return False
    if not isinstance(found, dict) or found.get("op") not in FAULTS:
        return False
    seconds = found.get("seconds", 1.0)
    in_time = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    allowed = {"op"} if found["op"] == "kill" else {"op", "seconds"}
    return in_time and 0.1 <= seconds <= SECONDS_MAX and found.keys() <= allowed


@given(
    st.binary(max_size=300)
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.fixed_dictionaries(
        {"op": st.sampled_from([*FAULTS, "Kill", "", 1])},
        optional={"seconds": st.floats() | st.integers() | st.text(), "pid": st.just(1)},
    ).map(lambda value: json.dumps(value).encode())
)
@example(b'{"op":"freeze","seconds":1e999}')
@example(b'{"op":"freeze","seconds":NaN}')
@example(b'{"op":"freeze","seconds":-1}')
@example(b'{"op":"kill","seconds":1}')
@example(b'{"op":"\xff"}')
@example(b"[" * 250)
@example(b'{"op":"kill"}' + b" " * REQUEST_BYTES_MAX)
def test_anything_else_is_refused(data: bytes) -> None:
    try:
        fault = decode(data)
    except BadRequest:
        assert not is_fault(data) or len(data) > REQUEST_BYTES_MAX
    else:
        assert is_fault(data)
        assert isinstance(fault, Kill) or 0.1 <= fault.seconds <= SECONDS_MAX


@pytest.mark.parametrize(
    ("op", "seconds"),
    [("kill", 1.0), ("freeze", 0.0), ("cut", 61.0), ("freeze", float("nan")), ("stop", None)],
)
def test_what_the_command_line_refuses(op: str, seconds: float | None) -> None:
    with pytest.raises(BadRequest):
        make(op, seconds)


def test_the_usual_times() -> None:
    assert [make(op, None) for op in FAULTS] == [Kill(), Freeze(3.0), Cut(1.0)]
