"""What is wrong with the token file, the key and the certificate: one warning each at the start.

The order manager starts all the same.  A strategy beside it may go on, a clock may be wrong, and
whoever can mend the file reads the line.
"""

import base64
import contextlib
import os
import re
import stat
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from app.config.settings import Settings
from app.runtime.log import get_logger

log = get_logger()

EXPIRES_SOON_S: Final = 14 * 86_400
_CERTIFICATE: Final = re.compile(
    rb"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL
)
_SEQUENCE, _VERSION, _UTC_TIME, _TIME = 0x30, 0xA0, 0x17, 0x18
"""Tags of DER (X.690)."""


def warn_of_access_files(settings: Settings) -> None:
    """Log what is wrong with the files that the settings of the order port name."""
    for name in ("order_token_file", "order_tls_key_file"):
        path = getattr(settings, name)
        if path and (mend := open_to_others(path)):
            log.warning("access_file_open", setting=name.upper(), path=path, mend=mend)
    path = settings.order_tls_cert_file
    # A form that OpenSSL takes and this module does not know is no reason to stay down.
    with contextlib.suppress(OSError, ValueError, IndexError):
        if path and (found := certificate_problem(path, time.time())):
            event, pairs = found
            log.warning(event, setting="ORDER_TLS_CERT_FILE", path=path, **pairs)


def open_to_others(path: str) -> str:
    """How to close a secret file that every user may read, or that others may write."""
    mode = stat.S_IMODE(os.stat(path).st_mode)
    if not mode & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP):
        return ""
    # A group that may read it is the way to share it with a container.
    return f"mode {mode:04o} lets other users in: chmod {mode & 0o740:04o} {path}"


def certificate_problem(path: str, now_s: float) -> tuple[str, dict[str, str]] | None:
    """The event and fields of the line about a certificate that is not valid, or not for long."""
    first, last = validity(Path(path).read_bytes())
    mend = "make a new one, or set the clock: no client accepts this one"
    if now_s < first.timestamp():
        return "certificate_not_yet_valid", {"valid_from": _text(first), "mend": mend}
    if now_s > last.timestamp():
        return "certificate_expired", {"valid_until": _text(last), "mend": mend}
    left_s = last.timestamp() - now_s
    if left_s < EXPIRES_SOON_S:
        days = f"{left_s / 86_400:.1f}"
        mend = "make a new one, and restart the order manager"
        pairs = {"valid_until": _text(last), "days": days, "mend": mend}
        return "certificate_expires_soon", pairs
    return None


def _text(when: datetime) -> str:
    return f"{when:%Y-%m-%dT%H:%M:%SZ}"


def validity(pem: bytes) -> tuple[datetime, datetime]:
    """From when until when the first certificate of a PEM file is valid (RFC 5280, 4.1).

    Raises:
        ValueError: there is no certificate in it.
    """
    found = _CERTIFICATE.search(pem)
    if found is None:
        raise ValueError("no certificate")
    der = base64.b64decode(found[1])
    _, at, _ = _value(der, 0)  # Certificate
    _, at, _ = _value(der, at)  # TBSCertificate
    if der[at] == _VERSION:
        at = _value(der, at)[2]
    for _ in range(3):  # serial number, signature algorithm, issuer
        at = _value(der, at)[2]
    tag, at, _ = _value(der, at)
    if tag != _SEQUENCE:
        raise ValueError("no validity in the certificate")
    first, at = _time(der, at)
    return first, _time(der, at)[0]


def _value(der: bytes, at: int) -> tuple[int, int, int]:
    """Tag, begin and end of the value at a position."""
    tag, size, at = der[at], der[at + 1], at + 2
    if size & 0x80:
        count = size & 0x7F
        size, at = int.from_bytes(der[at : at + count]), at + count
    return tag, at, at + size


def _time(der: bytes, at: int) -> tuple[datetime, int]:
    tag, begin, end = _value(der, at)
    text = der[begin:end].decode("ascii")
    if tag == _UTC_TIME:  # two digits of the year: 1950 to 2049
        text = ("19" if text >= "50" else "20") + text
    elif tag != _TIME:
        raise ValueError("no time in the certificate's validity")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC), end
