"""The decoder's process: reads one Parquet or Arrow file, writes its ticks to standard output.

The library that decodes is compiled, and a damaged file can make it end its process or ask for any
amount of memory.  Here it ends only this process, whose memory is limited.
"""

import contextlib
import importlib
import os
import resource
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from app.market_data.sources.columnar.layout import find_layout
from app.market_data.sources.columnar.messages import (
    Described,
    Done,
    Refused,
    Request,
    batch_of,
    encode,
)
from app.market_data.sources.columnar.ticks import TickReader, type_name
from app.market_data.sources.errors import DataError

_WRAPPINGS: Final = (
    "called `Result::unwrap()` on an `Err` value: ",
    "C Data interface error: ",
)

BATCH_ROWS: Final = 65536
"""At most so many ticks at a time, unless a row has more."""
MEMORY_BYTES_MAX: Final = 512 << 20
"""Of the data of this process: what Arrow needs for one row group page or one record batch."""

NEEDS: Final = "needs the packages arro3-core and arro3-io: pip install arro3-io"


def main() -> None:
    """Read the request from the command line, write messages until the file ends."""
    request = msgspec.json.decode(sys.argv[1], type=Request)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Standard output is for messages only, whatever a library prints.
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    try:
        for message in _messages(request):
            out.write(message)
        out.write(encode(Done()))
    except BrokenPipeError:
        return
    except DataError as error:
        out.write(encode(Refused(str(error))))
    except MemoryError:
        out.write(encode(Refused(f"{request.path}: {too_large(request.form)}")))
    except ModuleNotFoundError:
        out.write(encode(Refused(f"{request.path}: {request.form} {NEEDS}")))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of the library is no Exception
        reason = " ".join(str(error).split())
        for wrapping in _WRAPPINGS:
            reason = reason.removeprefix(wrapping)
        out.write(encode(Refused(f"{request.path}: damaged {request.form} file: {reason[:200]}")))


def too_large(form: str) -> str:
    """What is wrong with a file that needs too much memory."""
    part = "row groups" if form == "Parquet" else "record batches"
    return (
        f"{form} file needs more than {MEMORY_BYTES_MAX >> 20} MB to decode: it is damaged, or "
        f"write it in smaller {part}"
    )


def _messages(request: Request) -> Iterator[bytes]:
    path = Path(request.path)
    position = _bytes_read()
    reader = _opener(request.form, BATCH_ROWS)(request.path)
    names = [field.name for field in reader.schema]
    layout = find_layout(path, names, request.columns, request.prices)
    if not request.rows:
        columns = [(field.name, type_name(field.type)) for field in reader.schema]
        yield encode(Described(columns, layout.form))
        return
    try:
        ticks = TickReader(layout, request.columns, request.prices)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    sent = 0
    batch_rows = max(1, BATCH_ROWS // max(1, len(layout.symbols)))
    if batch_rows < BATCH_ROWS:
        reader = _opener(request.form, batch_rows)(request.path)
    for batch in reader:
        for first in range(0, batch.num_rows, batch_rows):
            part = batch.slice(first, min(batch_rows, batch.num_rows - first))
            try:
                rows = ticks.read(part)
            except ValueError as error:
                raise DataError(f"{path}: {error}") from None
            yield encode(batch_of(rows, ticks.symbols.names[sent:], _bytes_read() - position))
            sent = len(ticks.symbols.names)


def _opener(form: str, batch_rows: int) -> Callable[[str], Any]:
    # Only this process needs the library, and only for such a file.
    library = importlib.import_module("arro3.io")
    open_file: Callable[[str], Any]
    if form == "Parquet":
        open_file = partial(library.read_parquet, batch_size=batch_rows)
    else:
        open_file = library.read_ipc if form == "Arrow" else library.read_ipc_stream
    return open_file


def _bytes_read() -> int:
    """Bytes that this process has read from files; 0 where /proc does not tell."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/io").read_text().splitlines():
            if line.startswith("rchar:"):
                return int(line.split()[1])
    return 0


if __name__ == "__main__":
    main()
