"""The price book: what it returns, and what happens when its writer dies."""

import os

import numpy as np
import pytest

from app.shared_memory_utils.price_book import SharedPriceBook
from app.shared_memory_utils.segment import SegmentError
from tests.support.children import SHM, Spawn, open_files

SYMBOLS = ["AAPL", "MSFT", "1234567890"]

WRITER = """
    import sys
    from app.shared_memory_utils.price_book import SharedPriceBook
    book = SharedPriceBook(["AAPL", "MSFT", "1234567890"], sys.argv[1])
    book.update("AAPL", 101.5, event_ns=5, recv_ns=6, seq=7)
    print("ready", flush=True)
    sys.stdin.readline()
"""


class TestPriceBook:
    def test_reads_what_was_written(self, name: str) -> None:
        with (
            SharedPriceBook(SYMBOLS, name) as book,
            SharedPriceBook(name=name, create=False) as view,
        ):
            assert view.get_symbols() == SYMBOLS
            assert view.symbol_to_index == {"AAPL": 0, "MSFT": 1, "1234567890": 2}
            assert (view.read("AAPL"), view.read_tick("AAPL"), view.read_all()) == (0.0, None, {})
            book.update("AAPL", 101.5, event_ns=5, recv_ns=6, seq=7)
            assert view.read("AAPL") == 101.5
            assert view.read_tick("AAPL") == (101.5, 5, 6, 7)
            book.update_multiple({"MSFT": 2.0, "AAPL": 3.0})
            assert view.read_all() == {"AAPL": 3.0, "MSFT": 2.0}

    def test_unknown_symbols(self, name: str) -> None:
        with SharedPriceBook(SYMBOLS, name) as book:
            for ask in (book.read, book.read_tick):
                with pytest.raises(KeyError, match="TSLA"):
                    ask("TSLA")
            with pytest.raises(KeyError, match="TSLA"):
                book.update("TSLA", 1.0)
            with pytest.raises(KeyError, match="TSLA"):
                book.update_multiple({"AAPL": 1.0, "TSLA": 1.0})
            assert book.read_all() == {}

    @pytest.mark.parametrize("price", [0.0, -1.0, float("nan"), float("inf"), 9.1e9])
    def test_an_invalid_price_changes_nothing(self, name: str, price: float) -> None:
        with SharedPriceBook(SYMBOLS, name) as book:
            with pytest.raises(ValueError, match="price"):
                book.update("AAPL", price)
            with pytest.raises(ValueError, match="price"):
                book.update_multiple({"MSFT": 1.0, "AAPL": price})
            assert book.read_all() == {}

    @pytest.mark.parametrize(
        "symbols",
        [[], ["A", "A"], [""], ["X" * 33], ["ÄÖÜÄÖÜ"], ["A*"], ["A|"], ["A,"], ["A\n"]],
    )
    def test_invalid_symbol_lists_are_refused(self, name: str, symbols: list[str]) -> None:
        with pytest.raises(ValueError, match="symbol"):
            SharedPriceBook(symbols, name)
        assert not (SHM / name).exists()

    @pytest.mark.parametrize("symbol", ["ÄÖÜÄÖ", "日本", "BRK B", "=A1"])
    def test_a_symbol_is_printable_ascii_and_no_formula(self, name: str, symbol: str) -> None:
        with pytest.raises(ValueError, match="symbol"):
            SharedPriceBook(["AAPL", symbol], name)
        assert not (SHM / name).exists()

    def test_prices_is_a_live_read_only_view(self, name: str) -> None:
        with (
            SharedPriceBook(SYMBOLS, name) as book,
            SharedPriceBook(name=name, create=False) as view,
        ):
            prices = view.prices
            assert prices.dtype.names == ("symbol", "price")
            assert (prices.dtype["symbol"], prices.dtype["price"]) == (
                np.dtype("S10"),
                np.dtype("f8"),
            )
            assert prices["symbol"].tolist() == [b"AAPL", b"MSFT", b"1234567890"]
            assert prices["price"].tolist() == [0, 0, 0]
            book.update("MSFT", 2.5)
            assert prices["price"].tolist() == [0, 2.5, 0]
            with pytest.raises(ValueError, match="read-only"):
                prices["price"][0] = 1.0

    def test_a_view_outlives_close_and_unlink(self, name: str) -> None:
        book = SharedPriceBook(SYMBOLS, name)
        book.update("AAPL", 1.5)
        prices = book.prices
        book.unlink()
        book.close()
        assert prices["price"][0] == 1.5

    def test_the_context_manager_releases_everything_except_the_segment(self, name: str) -> None:
        before = open_files()
        with SharedPriceBook(SYMBOLS, name) as book:
            book.close()
        book.close()
        assert open_files() == before
        assert (SHM / name).exists()
        with SharedPriceBook(SYMBOLS, name) as again:
            assert again.warm
            again.unlink()
        assert not (SHM / name).exists()

    def test_a_reader_cannot_write(self, name: str) -> None:
        with SharedPriceBook(SYMBOLS, name), SharedPriceBook(name=name, create=False) as view:
            with pytest.raises(SegmentError, match="reading"):
                view.update("AAPL", 1.0)
            with pytest.raises(SegmentError, match="reading"):
                view.update_multiple({"AAPL": 1.0})

    def test_heartbeat_and_gaps(self, name: str) -> None:
        with (
            SharedPriceBook(SYMBOLS, name) as book,
            SharedPriceBook(name=name, create=False) as view,
        ):
            book.heartbeat()
            assert 0 <= view.heartbeat_age_s() < 5
            book.count_gap()
            assert (view.gaps, view.boot_id) == (1, book.boot_id)

    def test_ten_thousand_symbols_take_128_bytes_each_and_a_page(self, name: str) -> None:
        symbols = [f"S{i}" for i in range(10_000)]
        with SharedPriceBook(symbols, name) as book:
            assert book.nbytes == os.stat(SHM / name).st_size == 10_000 * 128 + 4096
            book.update("S9999", 5.0)
            with SharedPriceBook(name=name, create=False) as view:
                assert view.get_symbols() == symbols
                assert view.read_all() == {"S9999": 5.0}

    def test_only_owner_and_group_can_access_the_segment(self, name: str) -> None:
        with SharedPriceBook(SYMBOLS, name):
            assert os.stat(SHM / name).st_mode & 0o777 == 0o660


class TestWriterTakeover:
    def test_a_second_writer_is_refused(self, name: str, spawn: Spawn) -> None:
        assert spawn(WRITER, name).line() == "ready"
        with pytest.raises(SegmentError, match="another writer is alive"):
            SharedPriceBook(SYMBOLS, name)
        with pytest.raises(SegmentError, match="another writer is alive"):
            SharedPriceBook(["OTHER"], name)
        with SharedPriceBook(name=name, create=False) as view:
            assert view.read("AAPL") == 101.5

    def test_a_second_writer_is_refused_within_one_process(self, name: str) -> None:
        with SharedPriceBook(SYMBOLS, name):
            with pytest.raises(SegmentError, match="another writer is alive"):
                SharedPriceBook(SYMBOLS, name)
            with SharedPriceBook(name=name, create=False):
                pass  # a reader that closes does not free the writer's lock
            with pytest.raises(SegmentError, match="another writer is alive"):
                SharedPriceBook(SYMBOLS, name)

    def test_a_successor_takes_over_a_killed_writers_prices(self, name: str, spawn: Spawn) -> None:
        child = spawn(WRITER, name)
        assert child.line() == "ready"
        reader = SharedPriceBook(name=name, create=False)
        child.kill()
        assert reader.read_tick("AAPL") == (101.5, 5, 6, 7)
        with SharedPriceBook(SYMBOLS, name) as book:
            assert book.warm
            assert reader.is_current()
            book.update("AAPL", 102.5)
            assert reader.read_tick("AAPL")[0::3] == (102.5, 8)
        reader.close()

    def test_a_successor_with_other_symbols_starts_a_new_segment(
        self, name: str, spawn: Spawn
    ) -> None:
        child = spawn(WRITER, name)
        assert child.line() == "ready"
        reader = SharedPriceBook(name=name, create=False)
        child.kill()
        with SharedPriceBook(["TSLA"], name) as book:
            assert not book.warm
            assert book.boot_id != reader.boot_id
            assert not reader.is_current()
            assert reader.read("AAPL") == 101.5
            reader.unlink()  # has no effect: the name refers to the new segment
            assert book.is_current()
        reader.close()

    def test_one_of_eight_racing_writers_wins(self, name: str, spawn: Spawn) -> None:
        children = [
            spawn(
                """
                import sys
                from app.shared_memory_utils.segment import SegmentError
                from app.shared_memory_utils.price_book import SharedPriceBook
                print("up", flush=True)
                sys.stdin.readline()
                try:
                    book = SharedPriceBook(["A", "B"], sys.argv[1])
                    print("won", flush=True)
                except SegmentError as error:
                    assert "another writer" in str(error)
                    print("lost", flush=True)
                sys.stdin.readline()
                """,
                name,
            )
            for _ in range(8)
        ]
        for child in children:
            assert child.line() == "up"
        for child in children:
            child.tell()
        assert sorted(child.line() for child in children) == ["lost"] * 7 + ["won"]

    def test_reading_does_not_wait_for_a_stopped_writer(self, name: str, spawn: Spawn) -> None:
        child = spawn(WRITER, name)
        assert child.line() == "ready"
        child.process.send_signal(19)  # SIGSTOP
        with SharedPriceBook(name=name, create=False) as view:
            assert view.read("AAPL") == 101.5
            assert view.heartbeat_age_s() >= 0
