"""Warnings at the start: secret files that are open to others, certificates out of their time."""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.config.settings import Settings
from app.runtime.net.access_files import (
    certificate_problem,
    open_to_others,
    validity,
    warn_of_access_files,
)


def certificate(folder: Path, first: datetime, last: datetime) -> tuple[str, str]:
    """A certificate that is valid in between, and its key; the issuer is a name of its own."""
    key, request, cert = folder / "key.pem", folder / "request.pem", folder / "cert.pem"
    openssl(
        "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
        "-subj", "/CN=orders", "-keyout", str(key), "-out", str(request),
    )  # fmt: skip
    times = [f"{when:%Y%m%d%H%M%SZ}" for when in (first, last)]
    config = folder / "ca.cnf"
    (folder / "index.txt").write_text("")
    (folder / "serial").write_text("01\n")
    config.write_text(
        f"[ca]\ndefault_ca=own\n[own]\ndatabase={folder}/index.txt\nserial={folder}/serial\n"
        f"new_certs_dir={folder}\ndefault_md=sha256\npolicy=any\n[any]\ncommonName=supplied\n"
    )
    openssl(
        "ca", "-batch", "-selfsign", "-config", str(config), "-keyfile", str(key),
        "-in", str(request), "-out", str(cert), "-startdate", times[0], "-enddate", times[1],
        "-notext",
    )  # fmt: skip
    key.chmod(0o600)
    return str(cert), str(key)


@pytest.mark.parametrize("harm", ["header", "cut", "noise"])
def test_a_certificate_of_another_form_is_passed_over(tmp_path: Path, harm: str) -> None:
    cert, _ = certificate(tmp_path, NOW - 300 * DAY, NOW - 299 * DAY)
    path = Path(cert)
    text = path.read_text()
    lines = text.splitlines()
    path.write_text(
        {
            "header": text.replace("CERTIFICATE", "X509 CERTIFICATE"),
            "cut": "\n".join([lines[0], lines[1][:40], lines[-1]]),
            "noise": "\n".join([lines[0], "MIIB", lines[-1]]),
        }[harm]
    )
    with capture_logs() as found:
        warn_of_access_files(Settings(order_tls_cert_file=cert, order_tls_key_file="/dev/null"))
    assert [line for line in found if "certificate" in line["event"]] == []


def openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("first", "last", "event", "fields"),
    [
        (-DAY, 15 * DAY, "", {}),
        (-DAY, 365 * DAY, "", {}),
        (-9 * DAY, -DAY, "certificate_expired", {"valid_until": "2026-11-25T12:00:00Z"}),
        (DAY, 9 * DAY, "certificate_not_yet_valid", {"valid_from": "2026-11-27T12:00:00Z"}),
        (-DAY, 3 * DAY, "certificate_expires_soon", {"days": "3.0"}),
        (-DAY, 40 * 365 * DAY, "", {}),  # beyond 2049, another form of time
    ],
)
def test_a_certificate_out_of_its_time(
    tmp_path: Path, first: timedelta, last: timedelta, event: str, fields: dict[str, str]
) -> None:
    cert, _ = certificate(tmp_path, NOW + first, NOW + last)
    assert validity(Path(cert).read_bytes()) == (NOW + first, NOW + last)
    found = certificate_problem(cert, NOW.timestamp())
    assert (found[0] if found else "") == event
    if found:
        assert fields.items() <= found[1].items()
        assert "make a new one" in found[1]["mend"]


@pytest.mark.parametrize(
    ("mode", "mend"),
    [
        (0o600, ""), (0o400, ""), (0o640, ""),
        (0o644, "mode 0644 lets other users in: chmod 0640"),
        (0o666, "mode 0666 lets other users in: chmod 0640"),
        (0o660, "mode 0660 lets other users in: chmod 0640"),
        (0o602, "mode 0602 lets other users in: chmod 0600"),
    ],
)  # fmt: skip
def test_modes(tmp_path: Path, mode: int, mend: str) -> None:
    path = tmp_path / "token"
    path.write_text("secret")
    path.chmod(mode)
    assert open_to_others(str(path)).startswith(mend)
    assert bool(open_to_others(str(path))) is bool(mend)


def test_each_problem_is_one_line_that_names_setting_file_and_mend(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, NOW - 300 * DAY, NOW - 299 * DAY)
    token = tmp_path / "token"
    token.write_text("t" * 32)
    for path in (token, Path(key)):
        path.chmod(0o644)
    files: dict[str, Any] = {
        "order_token_file": str(token),
        "order_tls_cert_file": cert,
        "order_tls_key_file": key,
    }
    with capture_logs() as lines:
        warn_of_access_files(Settings(**files))
        warn_of_access_files(Settings())
    assert [(line["event"], line["setting"], line["path"]) for line in lines] == [
        ("access_file_open", "ORDER_TOKEN_FILE", str(token)),
        ("access_file_open", "ORDER_TLS_KEY_FILE", key),
        ("certificate_expired", "ORDER_TLS_CERT_FILE", cert),
    ]
    assert all(line["log_level"] == "warning" and line["mend"] for line in lines)
