"""The rules for symbols, the same for data files, feeds and orders."""

from typing import Final

MAX_SYMBOL_BYTES: Final = 10


def symbol_problem(symbol: bytes) -> str | None:
    """Why these bytes are not a valid symbol, or None."""
    if not symbol:
        return "empty symbol"
    if len(symbol) > MAX_SYMBOL_BYTES:
        return f"symbol of {len(symbol)} bytes, at most {MAX_SYMBOL_BYTES}"
    if any(byte in b"*|," or byte < 0x20 or byte == 0x7F for byte in symbol):
        return "symbol with a delimiter (* | ,) or a control byte"
    try:
        symbol.decode()
    except UnicodeDecodeError:
        return "symbol that is not UTF-8"
    return None
