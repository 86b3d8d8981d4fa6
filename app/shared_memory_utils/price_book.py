"""The price book: the last price of every symbol, written by one process, read by any.

The byte layout is in ``layout.h``; this module adds symbol names, creation and attaching.
"""

import contextlib
import secrets
import struct
import time
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from app.kernel import _kernel
from app.model.money import MAX_PRICE
from app.model.symbols import MAX_SYMBOL_BYTES, symbol_problem
from app.shared_memory_utils.layout_check import (
    Layout,
    check_constants,
    has_magic,
    item_count,
    store_checksum,
)
from app.shared_memory_utils.segment import (
    Segment,
    SegmentDamaged,
    SegmentError,
    SegmentHandle,
    open_for_writing,
)

PRICES_SYMBOL_BYTES = 10
"""Longest symbol in :attr:`SharedPriceBook.prices`, whose type programs of others rely on."""


def _slots_dtype(symbol_bytes: int) -> np.dtype[np.void]:
    """NumPy's view of the book's slots; a price is one aligned 8-byte word, so never torn."""
    fields = {"symbol": (f"S{symbol_bytes}", 64), "price": ("f8", 8)}
    return np.dtype(
        {
            "names": list(fields),
            "formats": [kind for kind, _ in fields.values()],
            "offsets": [offset for _, offset in fields.values()],
            "itemsize": _kernel.BOOK_SLOT_BYTES,
        }
    )


PRICES_DTYPE = _slots_dtype(PRICES_SYMBOL_BYTES)
_SLOTS_DTYPE = _slots_dtype(_kernel.SYMBOL_BYTES_MAX)
if _kernel.SYMBOL_BYTES_MAX != MAX_SYMBOL_BYTES:
    raise RuntimeError("the kernel has room for other symbols: build it again")

_BOOK_HEAD = struct.Struct("<QIIII Q")


def _constants(book: memoryview, count: int) -> bytes:
    slots = np.frombuffer(book, _SLOTS_DTYPE, count, _kernel.BOOK_HEADER_BYTES)
    return bytes(book[:20]) + bytes(book[24:32]) + slots["symbol"].tobytes()


_LAYOUT = Layout(
    kind="price book",
    magic=_kernel.BOOK_MAGIC,
    header_bytes=_kernel.BOOK_HEADER_BYTES,
    item_bytes=_kernel.BOOK_SLOT_BYTES,
    count_struct=struct.Struct("<I"),
    checksum_offset=20,
    constants=_constants,
)

CHECKED_SLOTS = 512
"""Slots per :meth:`SharedPriceBook.check`, which so takes some microseconds."""


class SharedPriceBook(SegmentHandle):
    """Last price of every symbol in shared memory: one writer, any number of readers.

    Args:
        symbols: the symbols in order; optional when attaching.
        name: the segment's name in ``/dev/shm``.
        create: True for the writer, which creates the segment or takes over a dead writer's if the
            symbols are the same (its prices stay readable meanwhile); False for a reader.

    Raises:
        SegmentMissing: attaching to a segment that does not exist.
        SegmentError: another writer is alive; or, when attaching, the segment has another layout
            version, is truncated, or holds different symbols.
        SegmentForeign: another program's segment has this name.
        ValueError: a symbol is empty, over 32 bytes, contains a delimiter, or appears twice.
    """

    def __init__(
        self, symbols: Iterable[str] | None = None, name: str = "price_book", create: bool = True
    ) -> None:
        wanted = None if symbols is None else list(symbols)
        if create:
            if wanted is None:
                raise ValueError("symbols: required for the writer")
            image = _book_image(wanted)
            self._segment, self.warm = open_for_writing(
                name, "price book", image, len(image), lambda old: _stored_symbols(old) == wanted
            )
        else:
            self._segment, self.warm = Segment.attach(name, writable=False), True
            try:
                stored = _stored_symbols(self._segment)
                if wanted is not None and wanted != stored:
                    raise SegmentError(f"price book {name}: holds different symbols")
            except SegmentError:
                self._segment.close()
                raise
        self._writer = create
        self._next_checked = 0
        self._view = _kernel.BookView(self._segment.buf)
        self._symbols = _stored_symbols(self._segment)
        self.symbol_to_index = {symbol: i for i, symbol in enumerate(self._symbols)}
        if create:
            self._view.repair()
            self._view.heartbeat()

    @property
    def boot_id(self) -> int:
        """Random number of this segment; a new segment of the same name has another."""
        return int(self._view.boot_id)

    @property
    def proof(self) -> str:
        """The boot id as text: what a strategy's order carries to show that it reads this book."""
        return f"{self.boot_id:016x}"

    @property
    def gaps(self) -> int:
        """Interruptions of the feed, counted by the writer."""
        return int(self._view.gaps)

    @property
    def prices(self) -> npt.NDArray[np.void]:
        """Live read-only view, shape ``(symbols,)``, fields ``symbol`` S10 and ``price`` f8.

        The price of a symbol that has not traded yet is 0.

        Raises:
            ValueError: a symbol has over 10 bytes.  Cut off, it could be another one.
        """
        for symbol in self._symbols:
            if len(symbol) > PRICES_SYMBOL_BYTES:
                raise ValueError(
                    f"symbol {symbol!r} has {len(symbol)} bytes; .prices shows up to "
                    f"{PRICES_SYMBOL_BYTES}: use .read, .read_all or .last_prices"
                )
        return self._view_slots(PRICES_DTYPE)

    @property
    def last_prices(self) -> npt.NDArray[np.float64]:
        """Live read-only view of the prices alone, in the order of :meth:`get_symbols`."""
        prices: npt.NDArray[np.float64] = self._view_slots(_SLOTS_DTYPE)["price"]
        return prices

    def _view_slots(self, dtype: np.dtype[np.void]) -> npt.NDArray[np.void]:
        view = np.frombuffer(
            self._segment.buf,
            dtype=dtype,
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
        """Write several prices; check all of them before writing the first."""
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
        """Last price of ``symbol``; 0.0 if it has not traded.  ``KeyError`` if unknown.

        Raises:
            SegmentDamaged: the book does not hold what its writer wrote, as in the other reads.
        """
        try:
            tick = self._view.get(self.symbol_to_index[symbol])
        except _kernel.Damaged as error:
            raise self._damaged(error) from None
        return float(tick[0]) if tick else 0.0

    def read_tick(self, symbol: str) -> tuple[float, int, int, int] | None:
        """``(price, event_ns, recv_ns, seq)``, all of one tick; None before the first tick.

        ``event_ns`` is UTC since the epoch, ``recv_ns`` is CLOCK_MONOTONIC at receipt.
        """
        try:
            return self._view.get(self.symbol_to_index[symbol])
        except _kernel.Damaged as error:
            raise self._damaged(error) from None

    def read_all(self) -> dict[str, float]:
        """Last price of every symbol that has traded."""
        ticks = ((symbol, self.read_tick(symbol)) for symbol in self._symbols)
        return {symbol: tick[0] for symbol, tick in ticks if tick}

    def check(self, *, whole: bool = False) -> None:
        """Check the next :data:`CHECKED_SLOTS` slots, and after the last what never changes.

        ``whole``: check all slots.

        Raises:
            SegmentDamaged: the book does not hold what its writer wrote.
        """
        first, end = self._next_checked, self._next_checked + CHECKED_SLOTS
        if whole:
            first, end = 0, len(self._symbols)
        try:
            self._view.check(first, end)
        except _kernel.Damaged as error:
            raise self._damaged(error) from None
        self._next_checked = end
        if end >= len(self._symbols):
            self._next_checked = 0
            check_constants(self._segment, _LAYOUT, len(self._symbols))

    def get_symbols(self) -> list[str]:
        """The symbols in their order."""
        return list(self._symbols)

    def _damaged(self, error: _kernel.Damaged) -> SegmentDamaged:
        return SegmentDamaged(f"{self.name}: {error}")

    def heartbeat_age_s(self) -> float:
        """Seconds since the writer's last heartbeat."""
        return (time.monotonic_ns() - int(self._view.heartbeat_ns)) / 1e9

    def heartbeat(self) -> None:
        """Publish a heartbeat; the writer calls this while no tick arrives."""
        self._require_writer()
        self._view.heartbeat()

    def count_gap(self) -> None:
        """Count one interruption of the feed."""
        self._require_writer()
        self._view.count_gap()

    def close(self) -> None:
        """Unmap; a writer's lock is freed.  The segment stays for the others."""
        with contextlib.suppress(AttributeError):  # closed before
            del self._view
        super().close()

    def _require_writer(self) -> None:
        if not self._writer:
            raise SegmentError(f"price book {self.name}: attached for reading")


def _book_image(symbols: list[str]) -> bytearray:
    """The bytes of a new book."""
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
    slots = np.frombuffer(image, dtype=_SLOTS_DTYPE, offset=_kernel.BOOK_HEADER_BYTES)
    slots["symbol"] = [symbol.encode() for symbol in symbols]
    store_checksum(image, _LAYOUT, len(symbols))
    return image


def _stored_symbols(segment: Segment) -> list[str]:
    """The symbols of a book segment.

    Raises:
        SegmentError: as :func:`item_count`.
    """
    count = item_count(segment, _LAYOUT)
    slots = np.frombuffer(
        segment.buf, dtype=_SLOTS_DTYPE, count=count, offset=_kernel.BOOK_HEADER_BYTES
    )
    return [raw.decode() for raw in slots["symbol"].tolist()]


def is_price_book(segment: Segment) -> bool:
    """Whether it is a price book, of any version."""
    return has_magic(segment, _LAYOUT)
