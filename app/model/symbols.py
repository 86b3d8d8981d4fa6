"""The rules for symbols, the same for data files, feeds and orders."""

import re
from typing import Final

MAX_SYMBOL_BYTES: Final = 32
FORMULA_STARTS: Final = b"=+-@"
"""A spreadsheet computes a cell of a CSV file that begins with one of these."""

_OPTION: Final = re.compile(rb"([A-Z0-9]{1,6}) {0,5}(\d{6}[CP]\d{8})")
"""The OSI form of an option: root, padded to six bytes; date, call or put, strike."""


def symbol_problem(symbol: bytes) -> str | None:
    """Why these bytes are not a valid symbol, or None."""
    if not symbol:
        return "empty symbol"
    if len(symbol) > MAX_SYMBOL_BYTES:
        return f"symbol of {len(symbol)} bytes, at most {MAX_SYMBOL_BYTES}"
    if any(byte in b"*|," or not 0x20 < byte < 0x7F for byte in symbol):
        compact = without_padding(symbol)
        if compact != symbol:
            return f"option with blanks inside: it is called {compact.decode()} here"
        return "symbol with a delimiter (* | ,), a space, or anything but printable ASCII"
    if symbol[0] in FORMULA_STARTS:
        return "symbol that begins like a formula (= + - @)"
    return None


def without_padding(symbol: bytes) -> bytes:
    """An option in OSI form without the blanks of its root; any other symbol as it is.

    ``AAPL  251219C00200000`` and ``AAPL251219C00200000`` are one option, no other one gets
    its name: what follows the root always has 15 bytes.  Blanks in other names may tell two apart.
    """
    found = _OPTION.fullmatch(symbol)
    return found[1] + found[2] if found else symbol


def is_option(symbol: str) -> bool:
    """Whether a symbol is that of an option in OSI form."""
    return _OPTION.fullmatch(symbol.encode()) is not None
