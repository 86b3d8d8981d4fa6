"""What of this program could be compiled and is not: it then runs as plain Python, slowly."""

import sys
from typing import Final

from app.kernel import _kernel

MEND: Final = (
    "install gcc and the headers of this Python (Debian: apt-get install gcc libc6-dev "
    "python3-dev), then make setup"
)


TYPED: Final = frozenset(
    {
        "app.backtest.broker",
        "app.execution.accounts",
        "app.execution.costs.borrow",
        "app.execution.costs.fees",
        "app.execution.costs.slippage",
        "app.execution.order_core",
        "app.execution.paper_exchange",
        "app.execution.pending_rows",
        "app.execution.prices",
        "app.execution.risk",
        "app.execution.risk_checks",
        "app.execution.risk_context",
        "app.execution.venue",
        "app.model.money",
        "app.model.orders",
        "app.model.position",
        "app.model.timestamps",
        "app.order_manager.access.turn",
        "app.order_manager.counts",
        "app.order_manager.order_log",
        "app.order_manager.server",
        "app.order_manager.service",
        "app.order_manager.session",
        "app.order_manager.sessions",
        "app.order_manager.store.checkpoint",
        "app.order_manager.store.loading",
        "app.order_manager.store.positions",
        "app.order_manager.store.store",
        "app.strategy.kit.held",
    }
)
"""Modules that ``make setup`` compiles from the Python that stands there; types: images/types."""


def plain_modules() -> list[str]:
    """Names of the imported modules of app that run as plain Python and need not.

    Those are the kernel, the first if it does, and :data:`TYPED`.
    """
    kernel = [] if _kernel.COMPILED else ["app.kernel._kernel"]
    imported = sorted(TYPED & sys.modules.keys())
    files = [getattr(sys.modules[name], "__file__", None) or "" for name in imported]
    return kernel + [n for n, file in zip(imported, files, strict=True) if file.endswith(".py")]


def warning() -> str:
    """One line for people; empty if all is compiled."""
    found = plain_modules()
    if not found:
        return ""
    return f"not compiled, so everything is slow: {', '.join(found)}; {MEND}"
