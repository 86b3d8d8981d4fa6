"""The options that name a cluster: what is accepted, and what is refused in which words."""

import sys
from pathlib import Path

import click
import dask
import dask.config
import pytest

from app.__main__ import main
from app.backtest.sweep.cluster.options import cluster_of, security_of
from app.backtest.sweep.cluster.options import dask as package
from tests.support.certificates import make_certificate


def test_without_a_scheduler_there_is_no_cluster() -> None:
    assert cluster_of(None, None, None, None) is None


@pytest.mark.parametrize(
    "address",
    ["tcp://10.0.0.7:8786", "tcp://dask-scheduler.team.svc:8786", "tcp://[fe80::1%eth0]:1"],
)
def test_an_address_is_taken_as_it_is(address: str) -> None:
    cluster = cluster_of(address, None, None, None)
    assert cluster is not None
    assert cluster.address == address
    assert security_of(cluster).require_encryption is False


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--scheduler", "10.0.0.7:8786"], "give tcp://HOST:PORT or tls://HOST:PORT"),
        (["--scheduler", "ucx://h:8786"], "--scheduler ucx://h:8786: give tcp://"),
        (["--scheduler", "tcp://h"], "--scheduler tcp://h: give tcp://HOST:PORT"),
        (["--scheduler", "tcp://h:0"], "--scheduler tcp://h:0: give tcp://HOST:PORT"),
        (["--scheduler", "tcp://h:65536"], "Dask's port is 8786"),
        (["--scheduler", "tcp://h:1/x"], "--scheduler tcp://h:1/x: give"),
        (["--scheduler", ""], "--scheduler : give"),
        (["--tls-cert", "x.pem"], "--tls-cert: give --scheduler tls://HOST:8786, too"),
        (
            ["--scheduler", "tcp://h:8786", "--tls-ca-file", "x.pem"],
            "--tls-ca-file: the address tcp://h:8786 is not encrypted; give tls://h:8786",
        ),
        (
            ["--scheduler", "tls://h:8786", "--tls-ca-file", "nothing.pem"],
            "--tls-ca-file nothing.pem: no such file",
        ),
        (
            ["--scheduler", "tls://h:8786"],
            "--scheduler tls://h:8786: give --tls-ca-file and --tls-cert, or set",
        ),
        (["--scheduler", "tcp://h:8786", "--jobs", "2"], "--jobs: is of this machine"),
    ],
)
def test_refuses(options: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "--param", "short=5,10", *options]) == 2
    captured = capsys.readouterr()
    assert part in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_files_of_tls_are_read_before_anything_is_sent(tmp_path: Path) -> None:
    made, other = make_certificate(tmp_path), make_certificate(tmp_path, "other")
    good = cluster_of("tls://h:8786", made.cert, made.cert, made.key)
    assert good is not None
    security = security_of(good)
    assert security.require_encryption is True
    assert security.get_connection_args("client")["ssl_context"] is not None
    for cert, key in ((made.cert, other.key), (made.key, None), (made.cert, None)):
        bad = cluster_of("tls://h:8786", made.cert, cert, key)
        assert bad is not None
        with pytest.raises(click.UsageError, match="--tls-cert"):
            security_of(bad)


def test_files_of_tls_may_be_those_of_dasks_configuration(tmp_path: Path) -> None:
    made = make_certificate(tmp_path)
    names = {"ca-file": made.cert, "client.cert": made.cert, "client.key": made.key}
    cluster = cluster_of("tls://h:8786", None, None, None)
    assert cluster is not None
    with dask.config.set({f"distributed.comm.tls.{name}": file for name, file in names.items()}):
        assert security_of(cluster).tls_client_key == made.key


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(click.UsageError, match=r"--scheduler: .*: install it with .*distributed"):
        package()
