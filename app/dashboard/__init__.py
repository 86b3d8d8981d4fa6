"""The dashboard: one page that shows the stack at work.  It only looks on."""

from app.dashboard.process import main

__all__ = ["main"]
