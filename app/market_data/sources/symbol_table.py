"""Symbols in order of first appearance, and fast lookup of a whole column of them."""

from typing import Final

import numpy as np
import numpy.typing as npt

from app.market_data.ragged import Bytes, Ints
from app.model.symbols import MAX_SYMBOL_BYTES, symbol_problem, without_padding

UNKNOWN: Final = -1
Keys = npt.NDArray[np.uint64]

_WORD_BYTES: Final = 8
_SPREADS: Final = np.array([0x9E3779B97F4A7C15**power % 2**64 for power in range(4)], np.uint64)
_MEND: Final = "set SYMBOL_COLUMN to other names, or DATA_SYMBOL, if all rows have the same"


class SymbolTable:
    """Names and indices of symbols.  :meth:`add` checks each name, so all are valid on the wire.

    A file may write an option with blanks inside (:func:`without_padding`); both forms are found,
    and the name is the one without.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.has_other_forms = False
        """Whether a symbol was written in another form than its name's."""
        self._index: dict[bytes, int] = {}
        self._keys: Keys = np.empty(0, np.uint64)
        self._key_index = np.empty(0, np.int64)
        self._key_lengths = np.empty(0, np.int64)
        self._words: Keys = np.empty((0, MAX_SYMBOL_BYTES // _WORD_BYTES), np.uint64)

    def __len__(self) -> int:
        return len(self.names)

    def get(self, symbol: bytes) -> int:
        """The symbol's index, or -1."""
        return self._index.get(symbol, UNKNOWN)

    def add(self, symbol: bytes) -> int:
        """The symbol's index; a new symbol gets the next one.

        Raises:
            ValueError: why the symbol is not valid on the wire.
        """
        index = self._index.get(symbol, UNKNOWN)
        if index != UNKNOWN:
            return index
        name = without_padding(symbol)
        if name != symbol:
            index = self.add(name)
            self.has_other_forms = True
        else:
            problem = symbol_problem(symbol)
            if problem:
                mend = len(symbol) > MAX_SYMBOL_BYTES or b" " in symbol
                raise ValueError(f"{problem}: {_MEND}" if mend else problem)
            index = len(self.names)
            self.names.append(symbol.decode())
        self._index[symbol] = index
        self._add_key(symbol, index)
        return index

    def _add_key(self, symbol: bytes, index: int) -> None:
        words = np.frombuffer(symbol.ljust(MAX_SYMBOL_BYTES, b"\0"), np.uint64)[None]
        key = _keys(words)
        at = int(np.searchsorted(self._keys, key)[0])
        # If two symbols have the same key, the second is found only by its name.
        if at == len(self._keys) or self._keys[at] != key[0]:
            self._keys = np.insert(self._keys, at, key)
            self._key_index = np.insert(self._key_index, at, index)
            self._key_lengths = np.insert(self._key_lengths, at, len(symbol))
            self._words = np.insert(self._words, at, words, axis=0)

    def find(self, data: Bytes, starts: Ints, lengths: Ints) -> Ints:
        """Index of each field, shape ``(n,)``; -1 where :meth:`add` must check it.

        ``data`` must extend at least 32 bytes past the last start.
        """
        if not len(starts) or not len(self._keys):
            return np.full(len(starts), UNKNOWN, np.int64)
        longest = int(lengths.clip(1, MAX_SYMBOL_BYTES).max())
        words = -(-longest // _WORD_BYTES)
        table = np.zeros((len(starts), words * _WORD_BYTES), np.uint8)
        for position in range(longest):
            table[:, position] = np.where(lengths > position, data[starts + position], 0)
        found: Keys = table.view(np.uint64)
        at = np.searchsorted(self._keys, _keys(found)).clip(0, len(self._keys) - 1)
        # A name of the same length has no further words.
        same = (self._words[at, :words] == found).all(axis=1) & (self._key_lengths[at] == lengths)
        return np.where(same, self._key_index[at], UNKNOWN)


def _keys(words: Keys) -> Keys:
    """One key from the words of a symbol's bytes; words of zeros change nothing."""
    mixed: Keys = words[:, 0].copy()
    for place in range(1, words.shape[1]):
        mixed += words[:, place] * _SPREADS[place]
    return mixed
