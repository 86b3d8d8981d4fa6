"""Settings, and files that a run is given: each is refused with the reason, before any order."""

import contextlib
import gzip
import os
import ssl
import subprocess
from pathlib import Path

from structlog.testing import capture_logs

from app.config.settings import Settings
from app.runtime.net.access import connect_orders
from tests.attacks.model import Attacker, Family
from tests.attacks.stages import certificate, run_process
from tests.chaos.host import HostStack
from tests.support.orders.server import running

FILES = Family("Settings and files")


def _fails(attacker: Attacker, module: str, pattern: str, phrase: str, **settings: object) -> None:
    """A process of the stack that does not start; its last line has the reason."""
    name = f"attack_{os.getpid()}_{module[-4:]}"
    try:
        done = run_process(module, attacker.folder, shm_metrics=name, order_port=0, price_port=0,
                           sentiment_port=0, **settings)  # fmt: skip
    finally:
        for segment in Path("/dev/shm").glob(f"{name}*"):
            segment.unlink(missing_ok=True)
    attacker.own_log += done.stdout
    attacker.see(f"exit code {done.returncode}")
    attacker.expect(done.stdout.splitlines()[-1], pattern, f"the last line says {phrase}")
    assert "Traceback" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) < 2000


@FILES.attack("a token of 5 bytes", "exit code 2, the last line says how to make a token",
              "invalid_settings", small=True)  # fmt: skip
def short_token(attacker: Attacker) -> None:
    token = attacker.folder / "token"
    token.write_text("abcde")
    _fails(attacker, "app.order_manager", "a token of 5 bytes, at least 16.*openssl rand",
           "how to make a token", order_token_file=token)  # fmt: skip


@FILES.attack(
    "a token file that is a folder",
    "exit code 2, the last line says that it is a directory",
    "invalid_settings",
)
def no_token(attacker: Attacker) -> None:
    _fails(attacker, "app.order_manager", "ORDER_TOKEN_FILE=.*Is a directory",
           "that it is a directory", order_token_file=attacker.folder)  # fmt: skip


@FILES.attack(
    "a port for all the world without a token",
    "exit code 2, the last line says that a token is required",
    "invalid_settings",
)
def published(attacker: Attacker) -> None:
    _fails(attacker, "app.order_manager", "ORDER_TOKEN_FILE: required",
           "that a token is required", bind_host="0.0.0.0")  # fmt: skip


@FILES.attack(
    "a key that is not the certificate's",
    "exit code 2, the last line says that they do not match",
    "invalid_settings",
)
def other_key(attacker: Attacker) -> None:
    cert, _ = certificate(attacker.folder, "one")
    _, key = certificate(attacker.folder, "two")
    _fails(attacker, "app.order_manager", "the key is not that of the certificate",
           "that they do not match", order_tls_cert_file=cert, order_tls_key_file=key)  # fmt: skip


@FILES.attack("a certificate that has expired",
              "a client refuses it, its error names the setting", "tls_failed")  # fmt: skip
def expired(attacker: Attacker) -> None:
    cert, key = _expired(attacker.folder)
    settings = {"order_tls_cert_file": cert, "order_tls_key_file": key}
    with capture_logs() as lines, running(attacker.folder, **settings) as server:
        chosen = Settings(order_port=server.port, order_manager_host="localhost", **settings)  # type: ignore[arg-type]
        try:
            connect_orders(chosen, 5.0).close()
        except ssl.SSLCertVerificationError as error:
            attacker.see("a client refuses it")
            attacker.expect(
                str(error), "expired.*ORDER_TLS_CERT_FILE", "its error names the setting"
            )
    attacker.own_log = "".join(f"0Z WARNING order_manager {line['event']}\n" for line in lines)


def _expired(folder: Path) -> tuple[str, str]:
    """A certificate of 2020."""
    config = folder / "ca.cnf"
    config.write_text(
        "[ca]\ndefault_ca=c\n[c]\ndatabase=index\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\n"
        "policy=p\nx509_extensions=e\n[p]\ncommonName=supplied\n[e]\n"
        "subjectAltName=DNS:localhost\nbasicConstraints=CA:true\n"
        "[req]\ndistinguished_name=d\nprompt=no\n[d]\nCN=localhost\n"
    )
    (folder / "index").touch()
    (folder / "serial").write_text("01\n")
    curve = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
    for command in (
        f"openssl req -new {curve} -keyout old.key -out old.csr -config ca.cnf",
        "openssl ca -batch -notext -selfsign -config ca.cnf -keyfile old.key -in old.csr "
        "-out old.pem -startdate 20200101000000Z -enddate 20200201000000Z",
    ):
        subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return str(folder / "old.pem"), str(folder / "old.key")


HEAD = b"timestamp,symbol,price\n2025-10-01 09:30:00,AAPL,173.2\n"
ROWS = {
    "a NUL byte in a row": b"2025-10-01 09:30:01,AA\0PL,173.2\n",
    "a symbol that a spreadsheet takes for a formula": b"2025-10-01 09:30:01,=1+1,173.2\n",
    "a price of NaN": b"2025-10-01 09:30:01,AAPL,NaN\n",
    "a price of 400 digits": b"2025-10-01 09:30:01,AAPL," + b"9" * 400 + b"\n",
    "bytes that are not UTF-8": b"2025-10-01 09:30:01,\xff\xfe,173.2\n",
    "a line of 10 MB": b"2025-10-01 09:30:01," + b"A" * 10_000_000 + b",173.2\n",
    "half a row at the end": b"2025-10-01 09:3",
}
for what, row in ROWS.items():

    @FILES.attack(f"a data file with {what}", "exit code 1, the last line says where",
                  "data_refused? fatal? stopped", small="10 MB" in what)  # fmt: skip
    def bad_row(attacker: Attacker, row: bytes = row) -> None:
        path = attacker.folder / "ticks.csv"
        path.write_bytes(HEAD + row)
        # A line that is too long has no row number: it is not read.
        _fails(attacker, "app.gateway", r"ticks\.csv(:3|: a line is)", "where", data_path=path)


@FILES.attack("a data file cut off in the middle of its gzip stream",
              "exit code 1, the last line says that it is not whole",
              "data_refused? fatal? stopped")  # fmt: skip
def half_gzip(attacker: Attacker) -> None:
    path = attacker.folder / "ticks.csv.gz"
    whole = gzip.compress(HEAD + b"2025-10-01 09:30:01,AAPL,173.2\n" * 10_000)
    path.write_bytes(whole[: len(whole) // 2])
    _fails(attacker, "app.gateway", "ticks.csv.gz.*(gzip|ended|truncated|cut)",
           "that it is not whole", data_path=path)  # fmt: skip


STRATEGIES = {
    "is missing": ("", "no file"),
    "raises when it is imported": ("raise RuntimeError('on purpose')\n", "on purpose"),
    "raises on a tick": (
        "from app.strategy import Strategy\nclass Mine(Strategy):\n"
        "    def on_tick(self, tick):\n        raise ValueError('no price I like')\n",
        "no price I like",
    ),
    "has a syntax error": ("class Mine(:\n", "syntax|SyntaxError"),
}
for what, (text, pattern) in STRATEGIES.items():

    @FILES.attack(f"a strategy file that {what}", "exit code 1, the last line says why",
                  "fatal process_died? stopped order_manager_lost?")  # fmt: skip
    def bad_strategy(attacker: Attacker, text: str = text, pattern: str = pattern) -> None:
        path = attacker.folder / "mine.py"
        if text:
            path.write_text(text)
        data = attacker.folder / "ticks.csv"
        data.write_bytes(HEAD + b"2025-10-01 09:30:01,AAPL,173.2\n" * 50)
        with HostStack(attacker.folder / "run", data_path=data, pace="max",
                       strategy=f"{path}:Mine") as stack:  # fmt: skip
            attacker.see(f"exit code {stack.wait(30)}")
            attacker.expect(stack.tail(1), pattern, "the last line says why")
        with contextlib.suppress(FileNotFoundError):
            attacker.own_log += stack.log_path.read_text()
