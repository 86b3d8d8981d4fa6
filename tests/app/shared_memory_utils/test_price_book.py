"""Price book and metadata: the contract, and the writer's life and death."""

import json
import os
from collections.abc import Iterator

import numpy as np
import pytest

from app.shared_memory_utils.metadata import SharedMemoryMetadata
from app.shared_memory_utils.price_book import SharedPriceBook
from app.shared_memory_utils.segment import SegmentError
from tests.support.children import SHM, Spawn, damage, open_files, segment_name, spawner

SYMBOLS = ["AAPL", "MSFT", "1234567890"]
VALUES = {"symbols": 3, "name": "Ä*|", "nested": {"list": [1, 2.5, None, True]}}

WRITER = """
    import sys
    from app.shared_memory_utils.price_book import SharedPriceBook
    book = SharedPriceBook(["AAPL", "MSFT", "1234567890"], sys.argv[1])
    book.update("AAPL", 101.5, event_ns=5, recv_ns=6, seq=7)
    print("ready", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def name() -> Iterator[str]:
    yield from segment_name()


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    yield from spawner()


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
    def test_what_is_no_price_changes_nothing(self, name: str, price: float) -> None:
        with SharedPriceBook(SYMBOLS, name) as book:
            with pytest.raises(ValueError, match="price"):
                book.update("AAPL", price)
            with pytest.raises(ValueError, match="price"):
                book.update_multiple({"MSFT": 1.0, "AAPL": price})
            assert book.read_all() == {}

    @pytest.mark.parametrize(
        "symbols",
        [[], ["A", "A"], [""], ["12345678901"], ["ÄÖÜÄÖÜ"], ["A*"], ["A|"], ["A,"], ["A\n"]],
    )
    def test_symbol_lists_that_cannot_be(self, name: str, symbols: list[str]) -> None:
        with pytest.raises(ValueError, match="symbol"):
            SharedPriceBook(symbols, name)
        assert not (SHM / name).exists()

    def test_symbols_of_many_bytes_a_letter(self, name: str) -> None:
        with SharedPriceBook(["ÄÖÜÄÖ", "日本"], name) as book:
            assert book.get_symbols() == ["ÄÖÜÄÖ", "日本"]

    def test_prices_is_a_live_view_that_nobody_writes_through(self, name: str) -> None:
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

    def test_the_context_manager_frees_everything_but_the_segment(self, name: str) -> None:
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

    def test_a_reader_does_not_write(self, name: str) -> None:
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

    def test_ten_thousand_symbols_cost_128_bytes_each_and_a_page(self, name: str) -> None:
        symbols = [f"S{i}" for i in range(10_000)]
        with SharedPriceBook(symbols, name) as book:
            assert book.nbytes == os.stat(SHM / name).st_size == 10_000 * 128 + 4096
            book.update("S9999", 5.0)
            with SharedPriceBook(name=name, create=False) as view:
                assert view.get_symbols() == symbols
                assert view.read_all() == {"S9999": 5.0}

    def test_the_mode_lets_the_group_in_and_nobody_else(self, name: str) -> None:
        with SharedPriceBook(SYMBOLS, name):
            assert os.stat(SHM / name).st_mode & 0o777 == 0o660


class TestWriterLife:
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

    def test_a_successor_takes_over_what_a_killed_writer_left(
        self, name: str, spawn: Spawn
    ) -> None:
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

    def test_a_successor_with_other_symbols_starts_afresh(self, name: str, spawn: Spawn) -> None:
        child = spawn(WRITER, name)
        assert child.line() == "ready"
        reader = SharedPriceBook(name=name, create=False)
        child.kill()
        with SharedPriceBook(["TSLA"], name) as book:
            assert not book.warm
            assert book.boot_id != reader.boot_id
            assert not reader.is_current()
            assert reader.read("AAPL") == 101.5
            reader.unlink()  # is no longer its own
            assert book.is_current()
        reader.close()

    def test_of_eight_racing_writers_one_wins(self, name: str, spawn: Spawn) -> None:
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


class TestMetadata:
    def test_reads_what_was_written_as_json(self, name: str) -> None:
        with SharedMemoryMetadata(name) as writer, SharedMemoryMetadata(name, create=False) as view:
            assert view.read() == {}
            writer.write(VALUES)
            assert view.read() == VALUES
            content = (SHM / name).read_bytes()[: SharedMemoryMetadata.METADATA_SIZE]
            assert json.loads(content.rstrip(b"\0")) == VALUES
            writer.write({})
            assert view.read() == {}

    def test_exactly_the_size_fits_and_a_byte_more_does_not(self, name: str) -> None:
        assert SharedMemoryMetadata.METADATA_SIZE == 1024
        with SharedMemoryMetadata(name) as metadata:
            room = 1024 - len('{"k":""}')
            metadata.write({"k": "x" * room})
            assert metadata.read() == {"k": "x" * room}
            with pytest.raises(ValueError, match="1025 bytes, at most 1024"):
                metadata.write({"k": "x" * (room + 1)})
            assert metadata.read() == {"k": "x" * room}

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_what_json_has_not(self, name: str, value: float) -> None:
        with SharedMemoryMetadata(name) as metadata:
            with pytest.raises(ValueError, match="JSON"):
                metadata.write({"k": value})
            with pytest.raises(TypeError):
                metadata.write({"k": object()})
            assert metadata.read() == {}

    def test_it_survives_its_writer(self, name: str, spawn: Spawn) -> None:
        child = spawn(
            """
            import sys
            from app.shared_memory_utils.metadata import SharedMemoryMetadata
            SharedMemoryMetadata(sys.argv[1]).write({"run": 1})
            print("ready", flush=True)
            sys.stdin.readline()
            """,
            name,
        )
        assert child.line() == "ready"
        child.kill()
        with SharedMemoryMetadata(name) as metadata:
            assert metadata.read() == {"run": 1}
            metadata.unlink()
        assert not (SHM / name).exists()

    def test_half_a_text_is_never_returned(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = iter(range(100))
        monkeypatch.setattr("app.shared_memory_utils.metadata.time.monotonic", lambda: next(clock))
        with SharedMemoryMetadata(name) as metadata:
            metadata.write(VALUES)
            damage(name, 5, "<B", 0)
            with pytest.raises(SegmentError, match="half-written"):
                metadata.read()

    def test_readers_see_whole_texts_while_it_is_rewritten(self, name: str, spawn: Spawn) -> None:
        with SharedMemoryMetadata(name) as metadata:
            metadata.write({"n": -1, "pad": ""})
            child = spawn(
                """
                import sys
                from app.shared_memory_utils.metadata import SharedMemoryMetadata
                metadata = SharedMemoryMetadata(sys.argv[1], create=False)
                print("up", flush=True)
                last = 0
                while last < 3000:
                    values = metadata.read()
                    assert values["n"] >= last or values["n"] == -1, values
                    assert values["pad"] == "x" * (max(values["n"], 0) % 700)
                    last = max(last, values["n"])
                print("done", flush=True)
                """,
                name,
            )
            assert child.line() == "up"
            for n in range(3001):
                metadata.write({"n": n, "pad": "x" * (n % 700)})
            assert child.line() == "done"

    def test_readers_never_see_an_empty_object_while_it_is_rewritten(
        self, name: str, spawn: Spawn
    ) -> None:
        """Small objects, so that most of the writer's time goes by at the length and the CRC."""
        with SharedMemoryMetadata(name) as metadata:
            metadata.write({"n": 0})
            child = spawn(
                """
                import sys
                from app.shared_memory_utils.metadata import SharedMemoryMetadata
                metadata = SharedMemoryMetadata(sys.argv[1], create=False)
                print("up", flush=True)
                while (values := metadata.read()) != {"n": 100_000}:
                    assert list(values) == ["n"], values
                print("done", flush=True)
                """,
                name,
            )
            assert child.line() == "up"
            for n in range(100_001):
                metadata.write({"n": n})
            assert child.line() == "done"
