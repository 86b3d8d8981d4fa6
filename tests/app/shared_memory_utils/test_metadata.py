"""The metadata segment: JSON in, the same JSON out, never half of it."""

import json

import pytest

from app.shared_memory_utils.metadata import SharedMemoryMetadata
from app.shared_memory_utils.segment import SegmentError
from tests.support.children import SHM, Spawn, damage

VALUES = {"symbols": 3, "name": "Ä*|", "nested": {"list": [1, 2.5, None, True]}}


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

    def test_the_maximum_size_fits_and_one_byte_more_does_not(self, name: str) -> None:
        assert SharedMemoryMetadata.METADATA_SIZE == 1024
        with SharedMemoryMetadata(name) as metadata:
            room = 1024 - len('{"k":""}')
            metadata.write({"k": "x" * room})
            assert metadata.read() == {"k": "x" * room}
            with pytest.raises(ValueError, match="1025 bytes, at most 1024"):
                metadata.write({"k": "x" * (room + 1)})
            assert metadata.read() == {"k": "x" * room}

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_values_that_json_cannot_hold_are_refused(self, name: str, value: float) -> None:
        with SharedMemoryMetadata(name) as metadata:
            with pytest.raises(ValueError, match="JSON"):
                metadata.write({"k": value})
            with pytest.raises(TypeError):
                metadata.write({"k": object()})
            assert metadata.read() == {}

    def test_the_object_survives_its_writer(self, name: str, spawn: Spawn) -> None:
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

    def test_a_half_written_text_is_never_returned(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = iter(range(100))
        monkeypatch.setattr("app.shared_memory_utils.metadata.time.monotonic", lambda: next(clock))
        with SharedMemoryMetadata(name) as metadata:
            metadata.write(VALUES)
            damage(name, 5, "<B", 0)
            with pytest.raises(SegmentError, match="half-written"):
                metadata.read()

    def test_readers_see_complete_texts_during_rewrites(self, name: str, spawn: Spawn) -> None:
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

    def test_readers_never_see_an_empty_object_during_rewrites(
        self, name: str, spawn: Spawn
    ) -> None:
        """Small objects: the writer then spends most of its time on the length and the CRC."""
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
