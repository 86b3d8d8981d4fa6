"""One line per event: UTC microseconds, level, service, event, key=value (or JSON)."""

import logging
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any


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
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    plain = text.isprintable() and text and not any(mark in text for mark in ' "=')
    return text if plain else '"' + text.encode("unicode_escape").decode().replace('"', '\\"') + '"'


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
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            add_service,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )


def get_logger() -> Any:
    """The process's logger; use it as ``log.info("client_dropped", peer=..., lag_bytes=...)``."""
    return structlog.get_logger()
