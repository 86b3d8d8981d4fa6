"""The rules for symbols, the same for data files, feeds and orders."""

from typing import Final

MAX_SYMBOL_BYTES: Final = 10
FORMULA_STARTS: Final = b"=+-@"
"""A spreadsheet computes a cell of a CSV file that begins with one of these."""


def symbol_problem(symbol: bytes) -> str | None:
    """Why these bytes are not a valid symbol, or None."""
    if not symbol:
        return "empty symbol"
    if len(symbol) > MAX_SYMBOL_BYTES:
        return f"symbol of {len(symbol)} bytes, at most {MAX_SYMBOL_BYTES}"
    if any(byte in b"*|," or not 0x20 < byte < 0x7F for byte in symbol):
        return "symbol with a delimiter (* | ,), a space, or anything but printable ASCII"
    if symbol[0] in FORMULA_STARTS:
        return "symbol that begins like a formula (= + - @)"
    return None
