"""The segments that the orderbook owns: price book, tick ring and metadata of one run."""

from app.config.settings import Settings
from app.kernel import _kernel
from app.runtime.lifecycle import FatalError
from app.runtime.log import get_logger
from app.runtime.net.feed_client import FeedConnection
from app.shared_memory_utils.metadata import SharedMemoryMetadata
from app.shared_memory_utils.price_book import SharedPriceBook
from app.shared_memory_utils.segment import SegmentDamaged
from app.shared_memory_utils.tick_ring import TickRing

log = get_logger()


class Segments:
    """The segments of a feed's run: created, or taken over if they already hold that run.

    They outlive this process: readers stay attached, and a successor continues at ``next_seq``.
    """

    def __init__(self, settings: Settings, feed: FeedConnection, run: int = 0) -> None:
        """Open the segments for ``feed``; ``run``: that of the stack, 0 for the first.

        Raises:
            FatalError: the feed has no symbol list.
            SegmentError: a segment cannot be created, or another process writes it.
        """
        if feed.symbols is None:
            raise FatalError("the price feed sent no symbol list")
        self.symbols, self.feed_id = feed.symbols, feed.feed_id
        self.metadata = SharedMemoryMetadata(settings.shm_metadata)
        known = self.metadata.read()
        same_run = known.get("feed_id") == feed.feed_id and known.get("run", 0) == run
        self.book = SharedPriceBook(feed.symbols, settings.shm_price_book)
        if self.book.warm and not same_run:
            self._replace_book(settings)
        self.ring = TickRing.open_writer(
            settings.shm_tick_ring,
            settings.ring_capacity_ticks,
            settings.ring_policy,
            fresh=not self.book.warm,
        )
        if self.book.warm and not self.ring.warm:
            # The ring was lost: the book would ignore the run's ticks until the last it knows.
            self._replace_book(settings)
        self.writer = self._take_over(feed.symbols)
        self.writer.heartbeat()
        self.metadata.write(
            {
                "layout_version": _kernel.LAYOUT_VERSION,
                "feed_id": feed.feed_id,
                "run": run,
                "price_book": settings.shm_price_book,
                "tick_ring": settings.shm_tick_ring,
                "symbols": len(feed.symbols),
                "boot_id": f"{self.book.boot_id:016x}",
            }
        )
        log.info(
            "segments_ready",
            book=settings.shm_price_book,
            symbols=len(feed.symbols),
            ring_ticks=self.ring.capacity,
            policy=settings.ring_policy,
            warm=self.book.warm,
            next_seq=self.ring.state.next_seq,
        )

    def _take_over(self, symbols: list[str]) -> _kernel.TickWriter:
        """The writer of new segments, or of a dead writer's.

        Raises:
            FatalError: those are damaged; they are removed, so a restart begins at tick 0.
        """
        parser = _kernel.FieldParser(symbols)
        try:
            self.book.check(whole=True)
            return _kernel.TickWriter(self.ring.buffer, self.book.buffer, parser)
        except (_kernel.Damaged, SegmentDamaged) as error:
            raise self.start_over(f"damaged: {error}") from None

    def _replace_book(self, settings: Settings) -> None:
        self.book.unlink()
        self.book.close()
        self.book = SharedPriceBook(self.symbols, settings.shm_price_book)

    def check_same_run(self, feed: FeedConnection) -> None:
        """Check that ``feed`` serves the run that the book holds.

        Raises:
            FatalError: ``feed`` serves another run; after a restart the book is created for it.
        """
        if feed.symbols != self.symbols or feed.feed_id != self.feed_id:
            raise FatalError(
                f"the gateway now serves another run ({feed.feed_id or 'unnamed'}, "
                f"{len(feed.symbols or [])} symbols) than this book holds "
                f"({self.feed_id or 'unnamed'}, {len(self.symbols)} symbols); restarting"
            )

    def check(self) -> None:
        """Check that readers find the segments, and in them what this process has written.

        Raises:
            FatalError: a segment was removed, replaced or damaged.  All are removed: after a
                restart the run is written again from tick 0, and its readers attach again.
        """
        try:
            self.writer.check()
            self.ring.check_header()
            self.book.check()
        except (_kernel.Damaged, SegmentDamaged) as error:
            raise self.start_over(f"damaged: {error}") from None
        lost = [each for each in (self.book, self.ring, self.metadata) if not each.is_current()]
        if lost:
            raise self.start_over(f"shared memory segment {lost[0].name} was removed or replaced")

    def start_over(self, why: str) -> FatalError:
        """Remove the ticks, so that a successor starts at tick 0; the error to raise."""
        self.ring.unlink()
        self.book.unlink()
        return FatalError(f"{why}; starting over from tick 0")

    def close(self) -> None:
        """Detach; the segments stay for the readers and for a successor."""
        del self.writer
        self.ring.close()
        self.book.close()
        self.metadata.close()
