"""Who computes the same: what is compared, and that a change is seen."""

import asyncio
from pathlib import Path
from typing import Any

import distributed
import numpy as np
import pytest

from app.backtest.sweep.cluster import fitness
from app.backtest.sweep.cluster.fitness import difference, facts_of, stack_digest

OURS = {"Python": "3.13", "machine": "x86_64", "numpy": "2.4.6", "distributed": "2026.8.0"}


def versions(python: str = "3.13.5.final.0", machine: str = "x86_64", **packages: str) -> Any:
    """What Dask says of a process."""
    return {
        "host": {"python": python, "machine": machine},
        "packages": {"numpy": "2.4.6", "distributed": "2026.8.0", "toolz": "1", **packages},
    }


def test_what_decides_results_is_compared() -> None:
    assert facts_of(versions()) == OURS
    assert difference(facts_of(versions(python="3.13.1.final.0", toolz="2")), OURS) == ""
    for changed, text in (
        (versions(python="3.11.2.final.0"), "Python 3.11, not 3.13"),
        (versions(machine="aarch64"), "machine aarch64, not x86_64"),
        (versions(numpy="2.5.0"), "numpy 2.5.0, not 2.4.6"),
        (versions(numpy="1", distributed="2"), "numpy 1, not 2.4.6, distributed 2, not 2026.8.0"),
    ):
        assert difference(facts_of(changed), OURS) == text


def test_dask_says_it_in_this_form() -> None:
    """Of this process, through a scheduler in it."""

    async def ask() -> dict[str, str]:
        made: Any = distributed.LocalCluster
        options = {"n_workers": 1, "threads_per_worker": 1, "processes": False}
        async with made(**options, dashboard_address=None, asynchronous=True) as cluster:
            client: Any = distributed.Client
            async with client(cluster, asynchronous=True, set_as_default=False) as connected:
                found = await connected.get_versions()
                assert facts_of(found["client"]) == facts_of(*found["workers"].values())
                return facts_of(found["client"])

    found = asyncio.run(ask())
    assert found["numpy"] == np.__version__
    assert found["distributed"] == distributed.__version__


def test_the_digest_is_of_every_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitness, "APP", tmp_path)
    digest = stack_digest.__wrapped__
    seen = {digest()}
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "deep").mkdir()
    for change in (
        lambda: (tmp_path / "a.py").write_text("x = 2\n"),
        lambda: (tmp_path / "deep/b.py").write_text(""),
        lambda: (tmp_path / "a.py").rename(tmp_path / "deep/a.py"),
    ):
        before = digest()
        change()
        assert digest() != before
        seen |= {before, digest()}
    assert len(seen) == 5
    # What is compiled from them, or says nothing of results.
    for name in ("a.pyc", "README.md", "kernel.so"):
        (tmp_path / name).write_text("x")
    assert digest() in seen
