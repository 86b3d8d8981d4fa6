"""Sweeps on a Dask cluster: one that tests share and leave as it is."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.app.backtest.sweep.cluster.dask_cluster import DaskCluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    """A scheduler and two workers."""
    with DaskCluster(tmp_path_factory.mktemp("cluster")) as made:
        yield made


@pytest.fixture
def own_folder(tmp_path: Path) -> Path:
    """For a cluster of this test only."""
    return tmp_path / "cluster"
