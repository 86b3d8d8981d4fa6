"""What a symbol may be, and what an option in OSI form is called."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.model.symbols import (
    MAX_SYMBOL_BYTES,
    is_option,
    symbol_problem,
    without_padding,
)

PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
ROOTS = st.text("ABXYZ019", min_size=1, max_size=6)
REST = st.builds(
    "{:06d}{}{:08d}".format,
    st.integers(0, 999999),
    st.sampled_from("CP"),
    st.integers(0, 99999999),
)


@given(st.text(PRINTABLE, min_size=1, max_size=MAX_SYMBOL_BYTES + 4))
def test_one_to_32_printable_bytes_are_a_symbol(text: str) -> None:
    wrong = len(text) > 32 or set(text) & set("*|,") or text[0] in "=+-@"
    assert bool(symbol_problem(text.encode())) == bool(wrong)


@given(ROOTS, REST)
def test_an_option_is_called_without_its_padding(root: str, rest: str) -> None:
    osi = f"{root:6}{rest}".encode()
    assert len(osi) == 21
    name = without_padding(osi)
    assert name == f"{root}{rest}".encode()
    assert without_padding(name) == name
    assert symbol_problem(name) is None
    assert is_option(name.decode())


@given(st.tuples(ROOTS, REST), st.tuples(ROOTS, REST))
def test_no_two_options_get_one_name(first: tuple[str, str], second: tuple[str, str]) -> None:
    names = {without_padding(f"{root:6}{rest}".encode()) for root, rest in (first, second)}
    assert len(names) == len({first, second})


@pytest.mark.parametrize(
    "symbol",
    [
        b"BRK B", b"ES Z5", b"BRN  FMH0025!", b"AAPL  251219X00200000", b"AAPL  251219C0020000",
        b" AAPL 251219C00200000", b"AAPL  251219C00200000 ", b"AAPL\t251219C00200000",
        b"aapl  251219C00200000", b"AAPL       251219C00200000",
    ],
)  # fmt: skip
def test_blanks_in_other_names_may_tell_them_apart(symbol: bytes) -> None:
    assert without_padding(symbol) == symbol
    assert "a space" in str(symbol_problem(symbol))


def test_an_order_for_an_option_with_blanks_is_told_its_name() -> None:
    assert symbol_problem(b"AAPL  251219C00200000") == (
        "option with blanks inside: it is called AAPL251219C00200000 here"
    )
