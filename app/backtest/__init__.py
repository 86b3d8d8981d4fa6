"""A run without the stack: the same data, strategy and order core in one process."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.backtest.results.entry import run
    from app.backtest.results.run_result import BacktestResult

__all__ = ["BacktestResult", "run"]

_PLACES = {"BacktestResult": "app.backtest.results.run_result", "run": "app.backtest.results.entry"}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for: a sweep's workers do without what reads files."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(_PLACES[name]), name)
    return found


def __dir__() -> list[str]:
    return [*globals(), *__all__]
