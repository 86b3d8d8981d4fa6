"""Who cannot take part, or may not: told in one line that says what helps."""

import shutil
from pathlib import Path

import pytest

from app.backtest.sweep.cluster import pool
from app.backtest.sweep.cluster.options import cluster_of, security_of
from app.backtest.sweep.cluster.pool import ClusterPool
from app.backtest.sweep.pool import PoolError
from tests.app.backtest.sweep.cluster.dask_cluster import DaskCluster
from tests.app.backtest.sweep.cluster.test_cluster import CELLS, SLOW, Running
from tests.app.backtest.sweep.sweeping import plain, rows_of
from tests.support.certificates import Certificate, make_certificate
from tests.support.children import eventually
from tests.support.paths import ROOT
from tests.support.ports import free_ports

pytestmark = [pytest.mark.medium, pytest.mark.timeout(240)]

MEND = "as here: start scheduler, workers and this command from one image or environment; "


def test_a_worker_without_this_stack_is_refused_and_a_later_one_is_left_out(
    own_folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(ROOT / "app", other / "app", ignore=shutil.ignore_patterns("__pycache__"))
    (other / "app/model/money.py").open("a").write("# changed\n")
    arguments = ["--strategy", plain(tmp_path), *SLOW]
    with DaskCluster(own_folder, workers=0) as cluster:
        bad = cluster.add_worker(path=None)
        running = Running(tmp_path / "far", *arguments, "--scheduler", cluster.address)
        out, err = running.end(1)
        (line,) = [each for each in err.splitlines() if "waiting" not in each]
        assert line.startswith("sweep: worker tcp://127.0.0.1:")
        assert "it has stack none that can be used (No module named 'app'), not " in line
        assert MEND in line
        assert line.endswith(f"0 of {CELLS} cells are in {running.out}; the same command goes on")
        assert out == ""
        bad.kill()

        cluster.add_worker()
        running = Running(tmp_path / "far", *arguments, "--scheduler", cluster.address)
        running.await_rows(10)
        cluster.add_worker(path=other)
        out, err = running.end()
        (line,) = [each for each in err.splitlines() if "worker tcp" in each]
        assert "it has stack " in line
        assert line.endswith("; the others go on")
        assert f"cells: {CELLS} ok" in out


def connect(address: str, certificate: Certificate | None = None) -> None:
    ca, cert, key = (certificate.cert, *certificate) if certificate else (None, None, None)
    cluster = cluster_of(address, ca, cert, key)
    assert cluster is not None
    ClusterPool(cluster, security_of(cluster)).__exit__()


def test_tls_is_required_of_both_sides(
    own_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cluster's certificate vouches for itself here, and not for a stranger's."""
    ours, stranger = make_certificate(tmp_path), make_certificate(tmp_path, "stranger")
    options = ["--tls-ca-file", ours.cert, "--tls-cert", ours.cert, "--tls-key", ours.key]
    arguments = ["--param", "short=5,10", "--param", "long=20,50", "--ticks", "2000"]
    with DaskCluster(own_folder, workers=1, tls=options) as cluster:
        assert cluster.address.startswith("tls://")
        running = Running(tmp_path / "far", *arguments, "--scheduler", cluster.address, *options)
        running.end()
        connect(cluster.address, ours)
        monkeypatch.setattr(pool, "CONNECT_S", 1.0)
        with pytest.raises(PoolError, match="no Dask scheduler answers"):
            connect(cluster.address, stranger)
        with pytest.raises(PoolError, match="no Dask scheduler answers"):
            connect(cluster.address.replace("tls", "tcp"))
    Running(tmp_path / "local", *arguments).end()
    assert rows_of(tmp_path / "far") == rows_of(tmp_path / "local")


def test_no_scheduler_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    monkeypatch.setattr(pool, "CONNECT_S", 0.5)
    with pytest.raises(PoolError) as caught:
        connect(f"tcp://127.0.0.1:{port}")
    assert str(caught.value).startswith(
        f"--scheduler tcp://127.0.0.1:{port}: no Dask scheduler answers: "
    )
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_module_that_the_worker_has_otherwise_is_refused(
    own_folder: Path, tmp_path: Path
) -> None:
    """A strategy in a file is sent, one in a module is not."""
    for name, sign in (("here", "<"), ("there", ">")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "own_module.py").write_text(
            "from app.strategy import Param, Strategy\n\n\nclass Own(Strategy):\n"
            "    level = Param(100.0)\n\n    def on_tick(self, tick):\n"
            f"        return 'BUY' if tick.price {sign} self.level else 'SELL'\n"
        )
        (folder / "app").symlink_to(ROOT / "app")
    arguments = ["--strategy", "own_module:Own", "--param", "level=50,100", "--ticks", "500"]
    with DaskCluster(own_folder, workers=0) as cluster:
        cluster.add_worker(path=tmp_path / "there")
        running = Running(
            tmp_path / "far",
            *arguments,
            "--scheduler",
            cluster.address,
            cwd=tmp_path / "here",
            path=tmp_path / "here",
        )
        _, err = running.end(1)
        assert "the module own_module has another source than the client's" in err
        eventually(lambda: not cluster.cell_processes(), "no process is left", 30)
