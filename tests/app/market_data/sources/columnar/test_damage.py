"""Damaged files: one clear line whatever the library does, and what the decoder may use up."""

import contextlib
import functools
import io
import os
import resource
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.market_data.sources.columnar import process
from app.market_data.sources.columnar.messages import Done, Inbox, encode
from app.market_data.sources.columnar.messages import Refused as RefusedMessage
from app.market_data.sources.errors import DataError
from app.market_data.sources.loader import load_prices
from app.market_data.sources.progress import LoadInterrupted
from app.market_data.tick_table import Columns
from tests.app.market_data.sources.columnar.test_files import WRITERS, as_stream, ticks

pa: Any = pytest.importorskip("pyarrow")

FLIPS = st.lists(
    st.tuples(st.integers(8, 1 << 20), st.sampled_from([0, 1, 127, 128, 255])), min_size=1
)
MEMORY_KB = 1 << 20


@functools.cache
def good(writer: Any) -> bytes:
    times, symbols, prices = ticks(2000)
    names = pa.array(symbols).dictionary_encode()
    file = io.BytesIO()
    writer(pa.table({"timestamp": times, "symbol": names, "price": prices}), file)
    return file.getvalue()


class Refused(Exception):
    """As it should be."""


def loaded(path: Path) -> int:
    """The number of rows.

    Raises:
        Refused: in one line that names the file; another error is not caught.
    """
    try:
        return len(load_prices(path, Columns(skip_bad_rows=True, sort_rows=True)))
    except DataError as error:
        if str(error).startswith(str(path)) and "\n" not in str(error):
            raise Refused from None
        raise


@pytest.mark.medium
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.sampled_from(WRITERS), FLIPS, st.booleans())
def test_flipped_bytes_are_refused_in_one_line_or_do_not_matter(
    tmp_path: Path, writer: Any, flips: list[tuple[int, int]], at_end: bool
) -> None:
    """The library ends its process for one damaged file in twenty; nobody else notices."""
    data = bytearray(good(writer))
    for at, value in flips:
        # The last bytes tell a format, the metadata before them are where damage hurts.
        place = len(data) - 9 - at % 1500 if at_end else at % (len(data) - 8)
        data[place] = value
    path = tmp_path / "damaged"
    path.write_bytes(data)
    with contextlib.suppress(Refused):
        assert 0 < loaded(path) <= 1 << 16
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < MEMORY_KB


def test_a_forged_length_costs_no_memory(tmp_path: Path) -> None:
    """The first message of a stream says how long it is: here nearly two gigabytes."""
    path = tmp_path / "forged"
    path.write_bytes(b"\xff\xff\xff\xff\xf8\xff\xff\x6f" + good(as_stream)[8:])
    with pytest.raises(DataError, match="needs more than 512 MB to decode"):
        load_prices(path, Columns())


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os; os.abort()", "its decoder ended with SIGABRT"),
        ("import sys; sys.exit('no Python')", "its decoder ended with exit code 1: no Python"),
        ("import os; os.write(1, b'\\xff' * 99)", "not what a decoder says"),
        ("import time; time.sleep(60)", "nothing decoded in 1 s"),
    ],
)
def test_whatever_the_decoder_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, reason: str
) -> None:
    module = tmp_path / "faulty_decoder.py"
    module.write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(process, "_MODULE", "faulty_decoder")
    monkeypatch.setattr(process, "SILENT_S_MAX", 1.0)
    path = tmp_path / "file"
    path.write_bytes(good(as_stream))
    with pytest.raises(DataError, match=reason):
        load_prices(path, Columns())


def test_a_stop_ends_the_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    start = subprocess.Popen

    def remember(*arguments: Any, **options: Any) -> Any:
        started.append(start(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", remember)

    groups: list[int] = []

    def stop(done: int, total: int) -> None:
        groups.append(os.getpgid(started[0].pid))
        raise LoadInterrupted

    path = tmp_path / "file"
    path.write_bytes(good(as_stream))
    begun = time.monotonic()
    with pytest.raises(LoadInterrupted):
        load_prices(path, Columns(), stop)
    assert started[0].poll() is not None
    # Ctrl-C in a terminal does not reach the decoder, whose end would look like a damaged file.
    assert groups == [started[0].pid]
    assert time.monotonic() - begun < 5


def test_a_message_may_come_in_any_pieces() -> None:
    data = encode(RefusedMessage("why")) + encode(Done())
    for cut in range(len(data) + 1):
        inbox = Inbox()
        assert [*inbox.feed(data[:cut]), *inbox.feed(data[cut:])] == [RefusedMessage("why"), Done()]
    with pytest.raises(ValueError, match="4294967295 bytes"):
        Inbox().feed(b"\xff" * 4)
