"""Loads a file through the decoder's process, however that ends."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

import msgspec

from app.market_data.sources.columnar.decoder import too_large
from app.market_data.sources.columnar.messages import (
    Batch,
    Described,
    Done,
    Inbox,
    Message,
    Refused,
    Request,
)
from app.market_data.sources.columnar.row_builder import RowBuilder
from app.market_data.sources.errors import SHOWN_HEADER, DataError, reading
from app.market_data.sources.source import ReadProgress
from app.market_data.sources.text.text_file import KINDS
from app.market_data.tick_table import Columns, Rows

SILENT_S_MAX: Final = 60.0
"""A decoder that says nothing for so long hangs."""

_MODULE: Final = "app.market_data.sources.columnar.decoder"
_WAIT_S: Final = 0.2
_PIPE_BYTES: Final = 1 << 20


def load(
    path: Path, form: str, columns: Columns, prices: bool, progress: ReadProgress | None
) -> Rows:
    """The rows of a file of the format ``form``: Parquet, Arrow or Arrow stream.

    Raises:
        DataError: with every reason why this file cannot be used.
    """
    builder = RowBuilder(path, columns, prices)
    with reading(path):
        size_bytes = path.stat().st_size
    request = Request(str(path), form, prices, columns)
    for batch in _answers(request, progress, size_bytes):
        if not isinstance(batch, Batch):
            continue
        for name in batch.names:
            builder.symbols.add(name.encode())
        builder.add(batch.rows())
        if progress:
            progress(min(batch.read_bytes, size_bytes), size_bytes)
    return builder.build()


def describe(path: Path, form: str, columns: Columns) -> list[tuple[str, str]]:
    """What the file is, as labels and texts for a user.

    Raises:
        DataError: it cannot be loaded.
    """
    with reading(path):
        size_bytes = path.stat().st_size
    request = Request(str(path), form, True, columns, rows=False)
    for message in _answers(request, None, size_bytes):
        if isinstance(message, Described):
            found = ", ".join(f"{name} ({kind})" for name, kind in message.columns)
            return [
                ("format", form),
                ("columns", found[:SHOWN_HEADER]),
                ("a row is", KINDS[message.form]),
            ]
    raise DataError(f"{path}: damaged {form} file: it has no columns")


def _answers(
    request: Request, progress: ReadProgress | None, size_bytes: int
) -> Iterator[Batch | Described]:
    root = str(Path(__file__).parents[4])
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])]),
        "OPENBLAS_NUM_THREADS": "1",
        "RUST_BACKTRACE": "0",
    }
    with os.fdopen(os.memfd_create("decoder-errors"), "w+b") as errors:
        decoder = subprocess.Popen(
            [sys.executable, "-m", _MODULE, msgspec.json.encode(request).decode()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=env,
            bufsize=0,
            start_new_session=True,  # Ctrl-C is for the stack, which then stops the loading
        )
        try:
            assert decoder.stdout is not None
            read_bytes = 0
            inbox = Inbox()
            for data in _pieces(request, decoder.stdout):
                for message in _messages(request, inbox, data):
                    match message:
                        case Batch():
                            read_bytes = message.read_bytes
                            yield message
                        case Described():
                            yield message
                        case Refused():
                            raise DataError(message.reason)
                        case Done():
                            return
                if progress:
                    progress(min(read_bytes, size_bytes), size_bytes)
            raise DataError(f"{request.path}: {_why_ended(decoder, request.form, errors)}")
        finally:
            decoder.kill()
            decoder.wait()
            if decoder.stdout:
                decoder.stdout.close()


def _messages(request: Request, inbox: Inbox, data: bytes) -> list[Message]:
    try:
        return inbox.feed(data)
    except (ValueError, msgspec.MsgspecError) as error:
        raise DataError(
            f"{request.path}: damaged {request.form} file: not what a decoder says: {error}"
        ) from None


def _pieces(request: Request, pipe: IO[bytes]) -> Iterator[bytes]:
    """What arrives; empty pieces while nothing does, so that a stop is noticed."""
    latest = time.monotonic()
    while True:
        if select.select([pipe], [], [], _WAIT_S)[0]:
            data = os.read(pipe.fileno(), _PIPE_BYTES)
            if not data:
                return
            latest = time.monotonic()
            yield data
        elif time.monotonic() - latest > SILENT_S_MAX:
            raise DataError(
                f"{request.path}: damaged {request.form} file: nothing decoded in "
                f"{SILENT_S_MAX:.0f} s"
            )
        else:
            yield b""


def _why_ended(decoder: subprocess.Popen[bytes], form: str, errors: IO[bytes]) -> str:
    """The reason that a decoder did not give itself."""
    code = decoder.wait()
    errors.seek(0)
    said = errors.read(1 << 16).decode("utf-8", "replace")
    if "memory allocation" in said or code == -signal.SIGKILL:
        return too_large(form)
    last = said.strip().splitlines()[-1][:200] if said.strip() else ""
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return f"damaged {form} file: its decoder ended with {how}" + (f": {last}" if last else "")
