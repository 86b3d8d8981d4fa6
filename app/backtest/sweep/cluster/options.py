"""Which cluster: the options of the command line, checked."""

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import click

ADDRESS: Final = re.compile(r"(tcp|tls)://(\[[^\s/\[\]]+\]|[^\s/:\[\]]+):(\d{1,5})")
INSTALL: Final = "install it with .venv/bin/pip install distributed"
TLS: Final = ("--tls-ca-file", "--tls-cert", "--tls-key")

Command = TypeVar("Command", bound=Callable[..., Any])


class Cluster(NamedTuple):
    """A scheduler's address, and the arguments of :class:`distributed.Security` for it."""

    address: str
    security: dict[str, Any]


def cluster_options(command: Command) -> Command:
    """Add the options of :func:`cluster_of` to a command."""
    for option in (
        click.option("--tls-key", metavar="FILE", help="its key, if it is not in that file"),
        click.option("--tls-cert", metavar="FILE", help="certificate of this client, PEM"),
        click.option("--tls-ca-file", metavar="FILE", help="CA of a tls:// cluster, PEM"),
        click.option("--scheduler", metavar="ADDRESS",
                     help="run the cells on a Dask cluster: tcp://HOST:8786 or tls://HOST:8786"),
    ):  # fmt: skip
        command = option(command)
    return command


def cluster_of(
    scheduler: str | None, tls_ca_file: str | None, tls_cert: str | None, tls_key: str | None
) -> Cluster | None:
    """The cluster that the options name; None without ``--scheduler``.

    Raises:
        UsageError: one of them is wrong, or does not go with the others.
    """
    files = dict(zip(TLS, (tls_ca_file, tls_cert, tls_key), strict=True))
    given = [name for name, file in files.items() if file]
    if scheduler is None:
        if given:
            raise click.UsageError(f"{given[0]}: give --scheduler tls://HOST:8786, too")
        return None
    found = ADDRESS.fullmatch(scheduler)
    if found is None or not 0 < int(found[3]) < 1 << 16:
        raise click.UsageError(
            f"--scheduler {scheduler}: give tcp://HOST:PORT or tls://HOST:PORT; Dask's port is 8786"
        )
    if found[1] == "tcp":
        if given:
            raise click.UsageError(
                f"{given[0]}: the address {scheduler} is not encrypted; give "
                f"tls{scheduler.removeprefix('tcp')}"
            )
        return Cluster(scheduler, {"require_encryption": False})
    for name, file in files.items():
        if file and not Path(file).is_file():
            raise click.UsageError(f"{name} {file}: no such file")
    return Cluster(scheduler, _tls(files))


def _tls(files: dict[str, str | None]) -> dict[str, Any]:
    """A file that is not given is the one of Dask's configuration."""
    names = ("tls_ca_file", "tls_client_cert", "tls_client_key")
    return {
        "require_encryption": True,
        **{name: file for name, file in zip(names, files.values(), strict=True) if file},
    }


def dask() -> Any:
    """The package ``distributed``.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return importlib.import_module("distributed")
    except ImportError as error:
        raise click.UsageError(f"--scheduler: {error}: {INSTALL}") from None


def security_of(cluster: Cluster) -> Any:
    """Its :class:`distributed.Security`.

    Raises:
        UsageError: Dask or OpenSSL cannot use the files.
    """
    security = dask().Security(**cluster.security)
    if not cluster.address.startswith("tls"):
        return security
    if not security.tls_ca_file or not security.tls_client_cert:
        raise click.UsageError(
            f"--scheduler {cluster.address}: give {TLS[0]} and {TLS[1]}, or set "
            "distributed.comm.tls in Dask's configuration"
        )
    try:
        security.get_connection_args("client")
    except (OSError, ValueError) as error:
        raise click.UsageError(
            f"{TLS[0]} {security.tls_ca_file}, {TLS[1]} {security.tls_client_cert}: {error}"
        ) from None
    return security
