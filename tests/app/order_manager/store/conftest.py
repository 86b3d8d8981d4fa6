"""A path for a store, and a disk that fails on demand."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.orders.faulty_disk import faulty_disk


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "orders.sqlite3"


@pytest.fixture
def disk() -> Any:
    with faulty_disk() as made:
        yield made
