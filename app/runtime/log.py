"""One line per event: UTC microseconds, level, service, event, key=value (or JSON)."""

import io
import json
import logging
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TextIO

from app.model.words import one_word


@contextmanager
def _without(module: str) -> Iterator[None]:
    """Importing ``module`` fails inside the block, as if it were not installed."""
    loaded = sys.modules.get(module)
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if loaded is None:
            del sys.modules[module]
        else:
            sys.modules[module] = loaded


# structlog loads rich if it is installed: 5 MB in every process, for tracebacks none prints.
with _without("rich"):
    import structlog

LEVELS = logging.getLevelNamesMapping()


def _text_line(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    head = f"{event.pop('ts')} {event.pop('level').upper()} {event.pop('service')}"
    name = event.pop("event")
    pairs = "".join(f" {key}={_text_value(value)}" for key, value in event.items())
    return f"{head} {name}{pairs}"


def _text_value(value: object) -> str:
    """A value as one word, quoted if it contains a space, quote, ``=`` or control character."""
    return one_word(f"{value:.6g}" if isinstance(value, float) else str(value))


def setup_logging(service: str, level: str = "INFO", form: str = "text") -> None:
    """Configure this process's log; every line carries ``service``."""

    def add_service(
        _logger: object, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        return {"ts": event.pop("timestamp"), "level": event.pop("level"), "service": service} | (
            dict(event)
        )

    render: Any = structlog.processors.JSONRenderer() if form == "json" else _text_line
    structlog.configure(
        processors=[
            # Not "iso": it leaves out the microseconds of a whole second.
            structlog.processors.TimeStamper(fmt="%Y-%m-%dT%H:%M:%S.%fZ", utc=True),
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            add_service,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    if form == "json":
        _JsonOutput(service).install()


def print_text(event: str, text: str, **fields: Any) -> None:
    """Print a text of many lines, such as a report: as it is, or as one JSON object."""
    output = sys.stdout
    if isinstance(output, _Lines):
        output.print(event, fields | {"text": text})
    else:
        print(text, flush=True)


def get_logger() -> Any:
    """The process's logger; use it as ``log.info("client_dropped", peer=..., lag_bytes=...)``."""
    return structlog.get_logger()


class _Lines(io.TextIOBase):
    """Standard output or error of code that prints text: each line becomes one JSON object."""

    def __init__(self, name: str, service: str, stream: TextIO) -> None:
        self._name, self._service = name, service
        self._stream = stream.stream if isinstance(stream, _Lines) else stream
        self._rest = ""

    @property
    def stream(self) -> TextIO:
        """Where the objects go."""
        return self._stream

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in filter(None, lines):
            self.print("printed", {"stream": self._name, "text": line})
        return len(text)

    def flush(self) -> None:
        rest, self._rest = self._rest, ""
        if rest:
            self.write(rest + "\n")
        else:
            self._stream.flush()

    def print(self, event: str, fields: dict[str, Any], level: str = "info") -> None:
        """Write one object, at any LOG_LEVEL."""
        now = f"{datetime.now(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"
        head = {"ts": now, "level": level, "service": self._service, "event": event}
        self._stream.write(json.dumps(head | fields, default=repr) + "\n")
        self._stream.flush()


class _JsonOutput:
    """Makes JSON of everything that a process prints without :func:`get_logger`."""

    def __init__(self, service: str) -> None:
        self._out = _Lines("stdout", service, sys.stdout)
        self._errors = _Lines("stderr", service, sys.stderr)

    def install(self) -> None:
        """Replace the standard streams and the hooks that print errors."""
        sys.stdout, sys.stderr = self._out, self._errors
        sys.excepthook = self._on_exception
        sys.unraisablehook = lambda args: self._on_exception(
            args.exc_type, args.exc_value, args.exc_traceback
        )
        threading.excepthook = lambda args: self._on_exception(
            args.exc_type, args.exc_value, args.exc_traceback
        )
        warnings.showwarning = self._on_warning

    def _on_exception(self, kind: Any, error: Any, trace: Any) -> None:
        text = "".join(traceback.format_exception(kind, error, trace)).rstrip()
        self._errors.print("bug", {"exception": text}, "error")

    def _on_warning(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        fields = {"kind": category.__name__, "text": str(message), "file": filename, "line": lineno}
        self._errors.print("python_warning", fields, "warning")
