"""Symbols in order of first appearance, and fast lookup of a whole column of them."""

from typing import Final

import numpy as np
import numpy.typing as npt

from app.market_data.ragged import Bytes, Ints
from app.model.symbols import MAX_SYMBOL_BYTES, symbol_problem

UNKNOWN: Final = -1
Keys = npt.NDArray[np.uint64]

_SPREAD: Final = np.uint64(0x9E3779B97F4A7C15)


class SymbolTable:
    """Names and indices of symbols.  :meth:`add` checks each name, so all are valid on the wire."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._index: dict[bytes, int] = {}
        self._keys: Keys = np.empty(0, np.uint64)
        self._key_index = np.empty(0, np.int64)
        self._words: Keys = np.empty((0, 2), np.uint64)

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
        problem = symbol_problem(symbol)
        if problem:
            raise ValueError(problem)
        index = self._index[symbol] = len(self.names)
        self.names.append(symbol.decode())
        words = np.frombuffer(symbol.ljust(16, b"\0"), np.uint64)[None]
        key = _keys(words)
        at = int(np.searchsorted(self._keys, key)[0])
        # If two symbols have the same key, the second is found only by its name.
        if at == len(self._keys) or self._keys[at] != key[0]:
            self._keys = np.insert(self._keys, at, key)
            self._key_index = np.insert(self._key_index, at, index)
            self._words = np.insert(self._words, at, words, axis=0)
        return index

    def find(self, data: Bytes, starts: Ints, lengths: Ints) -> Ints:
        """Index of each field, shape ``(n,)``; -1 where :meth:`add` must check it.

        ``data`` must extend at least 16 bytes past the last start.
        """
        if not len(starts) or not len(self._keys):
            return np.full(len(starts), UNKNOWN, np.int64)
        table = np.zeros((len(starts), 16), np.uint8)
        for position in range(int(lengths.clip(0, MAX_SYMBOL_BYTES).max())):
            table[:, position] = np.where(lengths > position, data[starts + position], 0)
        words: Keys = table.view(np.uint64)
        at = np.searchsorted(self._keys, _keys(words)).clip(0, len(self._keys) - 1)
        same = (self._words[at] == words).all(axis=1) & (lengths <= MAX_SYMBOL_BYTES)
        return np.where(same, self._key_index[at], UNKNOWN)


def _keys(words: Keys) -> Keys:
    """One key from the two words of a symbol's bytes."""
    mixed: Keys = words[:, 0] + words[:, 1] * _SPREAD
    return mixed
