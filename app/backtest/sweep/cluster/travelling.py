"""Functions that run on a worker.

A function in a function travels by value, and everything of the stack as bytes: so the scheduler
needs Dask only, and a worker without the stack can say so.
"""

from collections.abc import Callable
from typing import Any


def asking() -> Callable[..., Any]:
    """A function that answers a request where it runs."""

    def ask(request: bytes, *held: Any) -> Any:
        from app.backtest.sweep.cluster.session import answer

        return answer(request, *held)

    return ask


def looking() -> Callable[[], str]:
    """A function that returns the digest of the stack's sources, or why there is none."""

    def look() -> str:
        try:
            from app.backtest.sweep.cluster.fitness import stack_digest
        except ImportError as error:
            return f"none that can be used ({error})"
        return stack_digest()

    return look


def closing() -> Callable[[str], None]:
    """A function that ends what a worker does for a sweep."""

    def close(sweep: str) -> None:
        from app.backtest.sweep.cluster.session import close as close_session

        close_session(sweep)

    return close
