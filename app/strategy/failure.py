"""What a strategy failed on, and where in its own file."""

import inspect
import sys
import traceback
from collections.abc import Iterable
from typing import Any, Final

import numpy as np

from app.config.loading import compose_value
from app.model.timestamps import format_timestamp

Place = tuple[str, int]

REQUIREMENTS: Final = "data/strategies/requirements.txt"
"""Default of STRATEGY_REQUIREMENTS, also where no .env is, as in a container."""


class StrategyError(Exception):
    """The strategy cannot be used; the message says why.

    ``details``: file, line, tick and traceback, as fields of the log line.
    """

    def __init__(self, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.details = details or {}


def failure(what: str, error: Exception, place: Place | None, **details: Any) -> StrategyError:
    """``what`` failed because of ``error``, a strategy's exception."""
    message = f"{what}: {type(error).__name__}: {error}{_mend(error)}"
    if place is not None:
        message += f" ({place[0]}:{place[1]})"
        details |= {"file": place[0], "line": place[1]}
    return StrategyError(message, details | {"exception": _traceback(error)})


def place_of(error: BaseException, files: Iterable[str]) -> Place | None:
    """File and line of ``error``: the innermost of its frames that is in one of ``files``."""
    if isinstance(error, SyntaxError) and error.filename:
        return error.filename, error.lineno or 1
    own = set(files)
    found = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in own]
    return (found[-1].filename, found[-1].lineno or 1) if found else None


def files_of(strategy: type, base: type) -> list[str]:
    """The files of a strategy's class and its parents, up to ``base``."""
    kinds = [kind for kind in strategy.__mro__ if issubclass(kind, base) and kind is not base]
    modules = [sys.modules.get(kind.__module__) for kind in kinds]
    return [file for module in modules if (file := getattr(module, "__file__", None))]


def place_of_method(strategy: type, base: type, *names: str) -> Place | None:
    """Where the first of the methods that the strategy overrides is defined."""
    for name in names:
        method = getattr(strategy, name, None)
        code = getattr(method, "__code__", None)
        if code is not None and method is not getattr(base, name, None):
            return code.co_filename, code.co_firstlineno
    return None


def place_of_class(strategy: type) -> Place | None:
    """Where the class is defined."""
    try:
        return inspect.getfile(strategy), inspect.getsourcelines(strategy)[1]
    except (OSError, TypeError):
        return None


def signature_problem(method: Any, argument: str) -> str:
    """Why ``method`` cannot be called with one argument; empty if it can."""
    try:
        inspect.signature(method).bind(None)
    except TypeError as error:
        return f"must be {method.__name__}(self, {argument}): {error}"
    except ValueError:
        return ""  # No signature, as of a function in C: calling it will show.
    return ""


def describe_tick(tick: np.void, symbols: list[str]) -> dict[str, Any]:
    """A tick's sequence, symbol and event time, as fields of a log line."""
    return {
        "seq": int(tick["seq"]),
        "symbol": symbols[int(tick["symbol"])],
        "event_time": format_timestamp(int(tick["event_ns"])).decode(),
    }


def _mend(error: Exception) -> str:
    """How to get a module that is not here; empty if that is not what is wrong."""
    name = (
        error.name.partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and error.name
        else ""
    )
    if not name or name == "app":
        return ""
    file = compose_value("STRATEGY_REQUIREMENTS") or REQUIREMENTS
    return (
        f": add it to {file} (STRATEGY_REQUIREMENTS), then make setup or make up; or put {name}.py "
        "beside the strategy's file"
    )


def _traceback(error: Exception) -> str:
    return "".join(traceback.format_exception(error)).rstrip()
