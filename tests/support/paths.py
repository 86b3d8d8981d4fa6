"""Folders that tests use."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The project's folder."""

SHARED_DATA = Path(os.environ.get("TRADING_SHARED_DATA", ROOT.parent / "shared" / "data"))
"""Real market data beside the project; tests that need it are skipped where it is absent."""
