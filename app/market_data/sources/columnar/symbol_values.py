"""Symbols and sentiments of a typed column."""

import numpy as np

from app.market_data.ragged import Ints, Mask
from app.market_data.sources.columnar.arrow_memory import ArrowColumn
from app.market_data.sources.columnar.price_values import FLOATS, INTEGERS, TEXTS, BadValues
from app.market_data.sources.symbol_table import UNKNOWN, SymbolTable
from app.market_data.sources.value_columns import normalize_sentiment
from app.market_data.tick_table import NO_VALUE, SENTIMENT_MAX


def symbol_indices(column: ArrowColumn, kind: str, table: SymbolTable) -> tuple[Ints, BadValues]:
    """Index in ``table`` of each symbol, shape ``(n,)``, and the rows without a valid one.

    ``kind``: the column's type, for the error.

    Raises:
        ValueError: a column of this type has no symbols.
    """
    valid = column.valid()
    bad: BadValues = dict.fromkeys(np.flatnonzero(~valid).tolist(), (b"", "missing"))
    dictionary = column.dictionary
    if dictionary is not None:
        if dictionary.format not in TEXTS or column.format not in INTEGERS:
            raise ValueError(f"is of type {kind}, not text")
        codes = np.where(valid, column.numbers(INTEGERS[column.format]), 0).astype(np.int64)
        return _of_codes(codes, valid, dictionary, table, bad), bad
    if column.format not in TEXTS:
        raise ValueError(f"is of type {kind}, not text")
    return _of_texts(column, valid, table, bad), bad


def _of_codes(
    codes: Ints, valid: Mask, names: ArrowColumn, table: SymbolTable, bad: BadValues
) -> Ints:
    """Only the names that rows use are looked at: others need not be valid symbols."""
    index = np.full(max(names.length, 1), UNKNOWN, np.int64)
    named, texts = names.valid(), names.texts(TEXTS[names.format])
    problems: BadValues = {}
    # In order of first appearance, as in a text file.
    found, first = np.unique(codes[valid], return_index=True)
    for code in found[np.argsort(first)].tolist():
        text = texts.text(code).strip() if named[code] else b""
        try:
            index[code] = table.add(text) if text else _missing()
        except ValueError as error:
            index[code] = UNKNOWN
            problems[code] = (text, str(error))
    found_index: Ints = index[codes]
    for row in np.flatnonzero(valid & (found_index == UNKNOWN)).tolist():
        bad[row] = problems[int(codes[row])]
    return found_index


def _of_texts(column: ArrowColumn, valid: Mask, table: SymbolTable, bad: BadValues) -> Ints:
    texts = column.texts(TEXTS[column.format])
    index = table.find(texts.data, texts.starts, texts.lengths)
    unknown = np.flatnonzero(valid & (index == UNKNOWN))
    seen: dict[bytes, str] = {}
    for row in unknown.tolist():
        text = texts.text(row).strip()
        if text not in seen:
            seen[text] = _problem(text, table)
        if seen[text]:
            bad[row] = (text, seen[text])
        else:
            index[row] = table.get(text)
    return index


def _problem(text: bytes, table: SymbolTable) -> str:
    """Why this is no symbol; empty if it is one, which ``table`` then knows."""
    try:
        return "" if text and table.add(text) != UNKNOWN else "missing"
    except ValueError as error:
        return str(error)


def sentiment_values(column: ArrowColumn, kind: str, required: bool) -> tuple[Ints, BadValues]:
    """Sentiments from 0 to 100, and the malformed rows.

    No sentiment in a row is malformed if it is ``required``, else ``NO_VALUE``.

    Raises:
        ValueError: a column of this type has no sentiments.
    """
    valid = column.valid()
    bad: BadValues = {}
    values = np.full(column.length, NO_VALUE, np.int64)
    if column.format in TEXTS:
        texts = column.texts(TEXTS[column.format])
        some = valid & (texts.lengths > 0)
        for row in np.flatnonzero(some).tolist():
            text = texts.text(row).strip()
            try:
                values[row] = int(normalize_sentiment(text))
            except ValueError as error:
                bad[row] = (text, str(error))
    elif column.format in INTEGERS or column.format in FLOATS:
        numbers = column.numbers((INTEGERS | FLOATS)[column.format])
        some = valid & (numbers == numbers)  # a float column has NaN where pandas had nothing
        with np.errstate(invalid="ignore"):
            good = some & (numbers >= 0) & (numbers <= SENTIMENT_MAX)
            good &= numbers == np.rint(numbers)
        values[good] = numbers[good].astype(np.int64)
        for row in np.flatnonzero(some & ~good).tolist():
            bad[row] = (str(numbers[row]).encode(), f"not an integer from 0 to {SENTIMENT_MAX}")
    else:
        raise ValueError(f"is of type {kind}, not a number")
    if required:
        bad |= dict.fromkeys(np.flatnonzero(~some).tolist(), (b"", "missing"))
    return values, bad


def _missing() -> int:
    raise ValueError("missing")
