"""Certificates of servers, made by openssl."""

import subprocess
from pathlib import Path
from typing import NamedTuple


class Certificate(NamedTuple):
    """A certificate that vouches for itself, and its key."""

    cert: str
    key: str


def make_certificate(
    folder: Path, name: str = "server", names: str = "IP:127.0.0.1,DNS:localhost"
) -> Certificate:
    """``names``: the server's, as openssl takes them for subjectAltName."""
    made = Certificate(str(folder / f"{name}.pem"), str(folder / f"{name}.key"))
    command = [
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
        *("-nodes", "-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName={names}"),
        *("-out", made.cert, "-keyout", made.key),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return made
