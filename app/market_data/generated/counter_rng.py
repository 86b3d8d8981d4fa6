"""Random numbers as a function of seed, stream and index: random access, same on any machine.

A counter-based generator: the SplitMix64 output function over ``key + index * golden ratio``.
Source: G. L. Steele, D. Lea, C. H. Flood, "Fast Splittable Pseudorandom Number Generators",
OOPSLA 2014.  Integers only, so results do not depend on library version or instruction set.
"""

import hashlib
from typing import Final

import numpy as np
import numpy.typing as npt

from app.market_data.ragged import Ints

Words = npt.NDArray[np.uint64]

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX_1: Final = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2: Final = np.uint64(0x94D049BB133111EB)

NORMAL_SD: Final = 37837
"""Standard deviation of :meth:`CounterRng.normals`: 65536 * sqrt(4 / 12)."""


class CounterRng:
    """One stream of numbers; streams with different names are independent."""

    def __init__(self, seed: int, stream: str) -> None:
        digest = hashlib.blake2b(f"{seed}/{stream}".encode(), digest_size=8).digest()
        self._key = np.uint64(int.from_bytes(digest, "little"))

    def words(self, indices: Ints) -> Words:
        """64 random bits for each index; any shape."""
        word: Words = indices.astype(np.uint64) * _GOLDEN + self._key
        word = (word ^ (word >> np.uint64(30))) * _MIX_1
        word = (word ^ (word >> np.uint64(27))) * _MIX_2
        return word ^ (word >> np.uint64(31))

    def below(self, limit: int, indices: Ints) -> Ints:
        """An integer from 0 to ``limit - 1`` for each index; ``limit`` at most 2^31."""
        high = self.words(indices) >> np.uint64(32)
        return ((high * np.uint64(limit)) >> np.uint64(32)).astype(np.int64)

    def normals(self, indices: Ints) -> Ints:
        """Nearly normal integers: mean 0, standard deviation :data:`NORMAL_SD`, limited to 3.5 SD.

        The sum of four uniform 16-bit numbers (Irwin-Hall).
        """
        word = self.words(indices)
        total = np.zeros(indices.shape, np.int64)
        for shift in (0, 16, 32, 48):
            total += ((word >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.int64)
        return total - 2 * 0xFFFF
