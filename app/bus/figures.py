"""``/metrics`` of the processes of the bus, in Prometheus' text format.

They have no shared memory and no page; this answers that one address, with figures only.  Nothing
else is read of a request, so it needs no web server.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Final, NamedTuple

from app.config.settings import Settings
from app.runtime.lifecycle import FatalError
from app.runtime.log import get_logger

log = get_logger()

CLIENTS_MAX: Final = 16
HEAD_BYTES_MAX: Final = 8192
ANSWER_S: Final = 5.0
"""For a request and its answer; who is slower is left."""
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Figure(NamedTuple):
    """A metric: its values by labels, or one without.  A name that ends with ``_total`` counts."""

    name: str
    text: str
    values: Mapping[tuple[tuple[str, str], ...], float]


def one(name: str, text: str, value: float, **labels: str) -> Figure:
    """A metric with one value."""
    return Figure(name, text, {tuple(labels.items()): value})


def many(name: str, text: str, label: str, values: Mapping[str, float]) -> Figure:
    """A metric with a value for each value of a label."""
    return Figure(name, text, {((label, each),): value for each, value in values.items()})


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def figures_text(figures: Iterable[Figure]) -> bytes:
    """All of them, each with its help and kind."""
    lines = []
    for name, text, values in figures:
        kind = "counter" if name.endswith("_total") else "gauge"
        lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
        for labels, value in values.items():
            shown = ",".join(f'{label}="{_escaped(each)}"' for label, each in labels)
            shown = f"{{{shown}}}" if shown else ""
            lines.append(f"{name}{shown} {float(value)!r}")
    return "".join(f"{line}\n" for line in lines).encode()


class FiguresServer:
    """Answers ``GET /metrics`` with what ``collect`` returns."""

    def __init__(self, collect: Callable[[], Iterable[Figure]]) -> None:
        self._collect, self._clients = collect, 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request, one answer, and the connection ends."""
        self._clients += 1
        try:
            if self._clients <= CLIENTS_MAX:
                async with asyncio.timeout(ANSWER_S):
                    await self._answer(reader, writer)
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            pass  # no request, or nobody waits for the answer
        finally:
            self._clients -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0]
        method, _, rest = line.partition(b" ")
        status, kind, body = "404 Not Found", "text/plain", b"GET /metrics\n"
        if method == b"GET" and rest.partition(b" ")[0] == b"/metrics":
            status, kind, body = "200 OK", CONTENT_TYPE, figures_text(self._collect())
        head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n"
        writer.write(head.encode() + b"connection: close\r\n\r\n" + body)
        await writer.drain()


@contextlib.asynccontextmanager
async def serving(
    settings: Settings, collect: Callable[[], Iterable[Figure]]
) -> AsyncIterator[None]:
    """Serve on BUS_METRICS_PORT, unless it is 0, until the block ends.

    Raises:
        FatalError: the port cannot be had.
    """
    port = settings.bus_metrics_port
    if not port:
        yield
        return
    answer = FiguresServer(collect).answer
    try:
        server = await asyncio.start_server(answer, settings.bind_host, port, limit=HEAD_BYTES_MAX)
    except OSError as error:
        raise FatalError(
            f"BUS_METRICS_PORT={port} on {settings.bind_host}: {error.strerror}; set another one"
        ) from None
    log.info("metrics_ready", host=settings.bind_host, port=port)
    try:
        yield
    finally:
        server.close()
