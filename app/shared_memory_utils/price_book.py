"""The price book and the metadata segment: what readers and the one writer share.

The layout itself lives in ``layout.h``; here are the names, the life cycle and the checks.
"""

import contextlib
import secrets
import struct
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from app.kernel import _kernel
from app.model.money import MAX_PRICE
from app.model.symbols import symbol_problem
from app.shared_memory_utils.segment import Segment, SegmentError, SegmentForeign, create_or_attach

WRITER_LOCK_BYTE = 0
"""Whoever holds this byte's lock is the segment's one writer."""

PRICES_DTYPE = np.dtype(
    {"names": ["symbol", "price"], "formats": ["S10", "f8"], "offsets": [64, 8], "itemsize": 128}
)
"""The live NumPy view of the book; each price is one aligned 8-byte word, so never torn."""

_BOOK_HEAD = struct.Struct("<QIIII Q")


class SharedPriceBook:
    """Last price of every symbol, in shared memory: one writer, any number of readers.

    Args:
        symbols: the symbols in order; may be left out when attaching.
        name: the segment's name in ``/dev/shm``.
        create: True for the writer, who creates the segment or takes over that of a dead writer
            with the same symbols (prices stay readable meanwhile); False for a reader.

    Raises:
        SegmentMissing: attaching, and there is none.
        SegmentError: another writer lives; attaching, the segment is of another version, is
            truncated or has other symbols than asked for.
        SegmentForeign: the name is another program's segment.
        ValueError: a symbol that is empty, over 10 bytes, holds a delimiter, or stands twice.
    """

    def __init__(
        self, symbols: Iterable[str] | None = None, name: str = "price_book", create: bool = True
    ) -> None:
        wanted = None if symbols is None else list(symbols)
        if create:
            if wanted is None:
                raise ValueError("a writer names its symbols")
            self._segment, self.warm = _open_for_writing(name, _book_image(wanted), wanted)
        else:
            self._segment, self.warm = Segment.attach(name), True
            try:
                stored = _stored_symbols(self._segment)
                if wanted is not None and wanted != stored:
                    raise SegmentError(f"price book {name}: holds other symbols than asked for")
            except SegmentError:
                self._segment.close()
                raise
        self._writer = create
        self._view = _kernel.BookView(self._segment.buf)
        self._symbols = _stored_symbols(self._segment)
        self.symbol_to_index = {symbol: i for i, symbol in enumerate(self._symbols)}
        if create:
            self._view.repair()
            self._view.heartbeat()

    @property
    def name(self) -> str:
        """The segment's name."""
        return self._segment.name

    @property
    def buffer(self) -> memoryview:
        """The mapped segment, for the kernel's writer."""
        return self._segment.buf

    @property
    def nbytes(self) -> int:
        """Size in shared memory: 128 bytes a symbol and one page."""
        return self._segment.size

    @property
    def boot_id(self) -> int:
        """Random number of this segment; another segment of the same name has another."""
        return int(self._view.boot_id)

    @property
    def gaps(self) -> int:
        """Interruptions of the feed that the writer counted."""
        return int(self._view.gaps)

    @property
    def prices(self) -> npt.NDArray[np.void]:
        """Live read-only view, shape ``(symbols,)``, fields ``symbol`` S10 and ``price`` f8.

        A symbol that has not traded yet has price 0.
        """
        view = np.frombuffer(
            self._segment.buf,
            dtype=PRICES_DTYPE,
            count=len(self._symbols),
            offset=_kernel.BOOK_HEADER_BYTES,
        )
        view.flags.writeable = False
        return view

    def update(
        self,
        symbol: str,
        price: float,
        event_ns: int = 0,
        recv_ns: int | None = None,
        seq: int | None = None,
    ) -> None:
        """Write one price.  ``KeyError`` for an unknown symbol, ``ValueError`` for a bad price."""
        self._require_writer()
        when = time.monotonic_ns() if recv_ns is None else recv_ns
        self._view.put(self.symbol_to_index[symbol], price, event_ns, when, seq)

    def update_multiple(self, prices: Mapping[str, float]) -> None:
        """Write several prices; all are checked before the first is written."""
        self._require_writer()
        for symbol, price in prices.items():
            if symbol not in self.symbol_to_index:
                raise KeyError(symbol)
            if not 0 < price <= MAX_PRICE:
                raise ValueError(
                    f"{symbol}: price {price!r}: must be finite, above 0, at most {MAX_PRICE}"
                )
        for symbol, price in prices.items():
            self.update(symbol, price)

    def read(self, symbol: str) -> float:
        """Last price of ``symbol``; 0.0 if it has not traded.  ``KeyError`` if unknown."""
        tick = self._view.get(self.symbol_to_index[symbol])
        return float(tick[0]) if tick else 0.0

    def read_tick(self, symbol: str) -> tuple[float, int, int, int] | None:
        """``(price, event_ns, recv_ns, seq)`` of one and the same tick, or None before the first.

        ``event_ns`` is UTC since the epoch, ``recv_ns`` is CLOCK_MONOTONIC at receipt.
        """
        tick: tuple[float, int, int, int] | None = self._view.get(self.symbol_to_index[symbol])
        return tick

    def read_all(self) -> dict[str, float]:
        """Last price of every symbol that has traded."""
        ticks = ((symbol, self._view.get(i)) for i, symbol in enumerate(self._symbols))
        return {symbol: tick[0] for symbol, tick in ticks if tick}

    def get_symbols(self) -> list[str]:
        """The symbols in their order."""
        return list(self._symbols)

    def heartbeat_age_s(self) -> float:
        """Seconds since the writer's last sign of life."""
        return (time.monotonic_ns() - int(self._view.heartbeat_ns)) / 1e9

    def heartbeat(self) -> None:
        """The writer's sign of life while no tick flows."""
        self._view.heartbeat()

    def count_gap(self) -> None:
        """Count one interruption of the feed."""
        self._view.count_gap()

    def is_current(self) -> bool:
        """Whether the name still stands for this segment."""
        return self._segment.is_current()

    def close(self) -> None:
        """Unmap; a writer's lock is freed.  The segment stays for the others."""
        with contextlib.suppress(AttributeError):
            del self._view
        self._segment.close()

    def unlink(self) -> None:
        """Remove the segment's name."""
        self._segment.unlink()

    def _require_writer(self) -> None:
        if not self._writer:
            raise SegmentError(f"price book {self.name}: attached for reading")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _book_image(symbols: list[str]) -> bytearray:
    for symbol in symbols:
        problem = symbol_problem(symbol.encode())
        if problem:
            raise ValueError(f"{symbol!r}: {problem}")
    if not symbols or len(set(symbols)) != len(symbols):
        raise ValueError("symbols: at least one, and none twice")
    image = bytearray(_kernel.BOOK_HEADER_BYTES + len(symbols) * _kernel.BOOK_SLOT_BYTES)
    _BOOK_HEAD.pack_into(
        image,
        0,
        _kernel.BOOK_MAGIC,
        _kernel.LAYOUT_VERSION,
        _kernel.BOOK_SLOT_BYTES,
        len(symbols),
        0,
        secrets.randbits(64),
    )
    slots = np.frombuffer(image, dtype=PRICES_DTYPE, offset=_kernel.BOOK_HEADER_BYTES)
    slots["symbol"] = [symbol.encode() for symbol in symbols]
    return image


def _stored_symbols(segment: Segment) -> list[str]:
    """The symbols of a book segment.

    Raises:
        SegmentError: it is no price book, or one of another layout version.
    """
    if segment.size < _kernel.BOOK_HEADER_BYTES:
        raise SegmentForeign(f"{segment.name}: {segment.size} bytes are no price book; remove it")
    magic, version, slot_bytes, count, _, _ = _BOOK_HEAD.unpack_from(segment.buf)
    if magic != _kernel.BOOK_MAGIC:
        raise SegmentForeign(
            f"{segment.name}: no price book (magic {magic:#x}); choose another name"
        )
    if (version, slot_bytes) != (_kernel.LAYOUT_VERSION, _kernel.BOOK_SLOT_BYTES):
        raise SegmentError(
            f"{segment.name}: layout version {version}, this program reads "
            f"{_kernel.LAYOUT_VERSION}; restart every process on one version"
        )
    if segment.size < _kernel.BOOK_HEADER_BYTES + count * _kernel.BOOK_SLOT_BYTES:
        raise SegmentError(f"{segment.name}: truncated price book; remove it and restart")
    slots = np.frombuffer(
        segment.buf, dtype=PRICES_DTYPE, count=count, offset=_kernel.BOOK_HEADER_BYTES
    )
    return [raw.decode() for raw in slots["symbol"].tolist()]


def _open_for_writing(name: str, image: bytearray, wanted: list[str]) -> tuple[Segment, bool]:
    """The segment, its writer lock held, and whether it was taken over from a dead writer."""
    while True:
        segment, created = create_or_attach(name, image)
        if not segment.try_lock(WRITER_LOCK_BYTE):
            segment.close()
            raise SegmentError(f"price book {name}: another writer is alive; stop it first")
        if created:
            return segment, False
        try:
            if segment.is_current() and _stored_symbols(segment) == wanted:
                return segment, True
        except SegmentForeign:
            segment.close()
            raise
        except SegmentError:
            pass  # another version's leftover without a writer: replace it
        segment.unlink()
        segment.close()
