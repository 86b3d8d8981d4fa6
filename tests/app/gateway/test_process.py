"""``python -m app.gateway`` as a process: exit codes, signals, counters, memory, idle CPU."""

import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.gateway.process import load_data
from app.runtime.metrics.snapshot import ProcessSnapshot, read_metrics
from tests.support.certificates import make_certificate
from tests.support.feed_helpers import (
    WireClient,
    make_feed,
    make_settings,
    parse_ticks,
    ticks_bytes,
)
from tests.support.paths import ROOT

DEADLINE_S = 30.0

Start = Callable[..., "Process"]


class Process:
    """A gateway process and the lines it logged."""

    def __init__(self, environ: dict[str, str]) -> None:
        self.child = subprocess.Popen(
            [sys.executable, "-m", "app.gateway"],
            cwd=ROOT,
            env=environ,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self.metrics_name = environ["SHM_METRICS"]

    def read_until(self, pattern: str) -> re.Match[str]:
        """Read the log up to a line that matches ``pattern``."""
        assert self.child.stderr is not None
        for line in self.child.stderr:
            self.lines.append(line)
            found = re.search(pattern, line)
            if found:
                return found
        raise AssertionError(f"no line with {pattern!r} in:\n{''.join(self.lines)}")

    def ports(self) -> tuple[int, int]:
        """Both ports; waits until they are open."""
        found = self.read_until(r" ready price_port=(\d+) sentiment_port=(\d+)")
        return int(found[1]), int(found[2])

    def wait(self) -> int:
        """The exit code; the rest of the log is added to ``lines``.

        Without a compiler each process begins with one line that says so, which is left out.
        """
        _, rest = self.child.communicate(timeout=DEADLINE_S)
        lines = rest.splitlines(keepends=True)
        self.lines += [line for line in lines if " not_compiled " not in line]
        return self.child.returncode

    def metrics(self) -> ProcessSnapshot:
        """The gateway's block of metrics."""
        (block,) = read_metrics(self.metrics_name)
        return block


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    name = f"gateway_test_{uuid.uuid4().hex}"
    running: list[Process] = []

    def start_process(**changes: object) -> Process:
        given = {key: value for key, value in changes.items() if not key.isupper()}
        settings = make_settings(**({"log_level": "INFO", "shm_metrics": name} | given))
        raw = {key: str(value) for key, value in changes.items() if key.isupper()}
        process = Process(os.environ | settings.to_environ() | raw)
        running.append(process)
        return process

    yield start_process
    for process in running:
        process.child.kill()
        process.child.wait()
        if process.child.stderr:
            process.child.stderr.close()
    for segment in Path("/dev/shm").glob(f"{name}*"):
        segment.unlink(missing_ok=True)


def test_load_data(path: Path) -> None:
    price_frames, symbols, sentiment_frames = load_data(path=path)
    lines = path.read_text().splitlines()[1:]
    assert price_frames == [("*".join(line.split(",")) + "*").encode() for line in lines]
    assert symbols == ["AAPL", "MSFT", "F"]
    assert len(sentiment_frames) == 30
    for event in parse_ticks(b"".join(sentiment_frames)):
        assert event.symbol in symbols
        assert 0 <= int(event.value) <= 100


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it_with_exit_code_0_at_once(start: Start, path: Path, number: int) -> None:
    process = start(data_path=str(path), replay="walk", pace="1000/s")
    price_port, _ = process.ports()
    with WireClient(price_port) as client:
        client.read_frames(100)
        begun = time.monotonic()
        process.child.send_signal(number)
        assert process.wait() == 0
        assert time.monotonic() - begun < 5
        client.read_to_end()
    assert "stopped exit_code=0" in process.lines[-1]
    assert process.metrics().state == "done"


def test_run_to_the_end_and_counters(start: Start, path: Path) -> None:
    process = start(data_path=str(path), sentiment_subscribers=1)
    price_port, sentiment_port = process.ports()
    assert process.metrics().state == "ready"
    with WireClient(sentiment_port, b"RESUME|0*") as s, WireClient(price_port, b"RESUME|0*") as p:
        received = len(s.read_to_end()) + len(p.read_to_end())
        # The stream is finished, but the gateway stays up for clients that resume.
        process.read_until("stream_finished ticks=300")
        with WireClient(price_port, b"RESUME|299*") as late:
            assert late.read_to_end().endswith(b"END|300*")
    with WireClient(price_port, b"nonsense*"):
        process.read_until("client_refused")
    process.child.terminate()
    assert process.wait() == 0
    counters = process.metrics().counters
    assert counters["ticks_sent"] == 300
    assert counters["sentiment_sent"] == 30
    assert counters["resumes"] == 3
    assert counters["clients_dropped"] == 1
    assert counters["bytes_sent"] > received - 50
    assert 0 < counters["first_event_ns"] <= counters["last_event_ns"]


def test_restart_continues_for_a_client_that_resumes(start: Start, path: Path) -> None:
    feed = make_feed(path, replay="walk")
    data, seq = b"", 0
    for _ in range(3):
        process = start(data_path=str(path), replay="walk", pace="5000/s", sentiment_subscribers=1)
        price_port, sentiment_port = process.ports()
        with (
            WireClient(sentiment_port, b"RESUME|0*"),
            WireClient(price_port, b"RESUME|%d*" % seq) as client,
        ):
            client.read_until(lambda data: data.count(b"*") > 1500)
            process.child.kill()
            process.wait()
            ticks = client.data.partition(b"SEQ|%d*" % seq)[2].split(b"*")
        whole = len(ticks) // 3
        data += b"".join(field + b"*" for field in ticks[: 3 * whole])
        seq += whole
        assert data == ticks_bytes(feed, 0, seq)


def test_restart_does_not_wait_for_sentiment_again(start: Start, path: Path) -> None:
    """The sentiment client may have received everything from the gateway that died."""
    choices = {"data_path": str(path), "sentiment_subscribers": 1}
    first = start(**choices)
    price_port, sentiment_port = first.ports()
    with WireClient(sentiment_port, b"RESUME|0*") as sentiment:
        sentiment.read_to_end()
    with WireClient(price_port):
        first.read_until("stream_started")
        first.child.kill()
        first.wait()
    price_port, _ = start(**choices).ports()
    with WireClient(price_port, b"RESUME|0*") as client:
        assert client.read_to_end().endswith(b"END|300*")


def test_refused_data(start: Start, path: Path) -> None:
    with path.open("a") as file:
        file.write("2025-10-02,AAPL,zero\n")
    process = start(data_path=str(path))
    assert process.wait() == 1
    text = "".join(process.lines)
    assert f"{path}:302: price='zero': not a number" in text
    assert "Traceback" not in text
    process = start(data_path=str(path), skip_bad_rows=True)
    process.ports()
    assert any("rows_skipped" in line and "rows=1" in line for line in process.lines)
    assert process.metrics().counters["rows_skipped"] == 1


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"data_path": "no/such.csv"}, 1, "no/such.csv: No such file or directory"),
        ({"sentiment_path": "no/such.csv"}, 1, "no/such.csv: No such file or directory"),
        (
            {"bind_host": "203.0.113.1", "publish_feed_open": True},
            1,
            "cannot listen on 203.0.113.1",
        ),
        (
            {"bind_host": "no.such.host.invalid", "publish_feed_open": True},
            1,
            "cannot listen on no.such.host.invalid",
        ),
        ({"PACE": "fast", "SEED": "-1"}, 2, "PACE=fast"),
        ({"gateway_cpus": "4095"}, 1, "CPUs 4095"),
        ({"order_token_file": "no/token"}, 2, "ORDER_TOKEN_FILE=no/token: No such file"),
    ],
)
def test_settings_it_cannot_start_with(
    start: Start, path: Path, changes: dict[str, object], code: int, message: str
) -> None:
    process = start(**({"data_path": str(path)} | changes))
    assert process.wait() == code
    text = "".join(process.lines)
    assert message in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    "changes",
    [
        {"bind_host": "0.0.0.0"},
        {"bind_host": "0.0.0.0", "order_published_host": "192.0.2.1"},
        {"order_published_host": "0.0.0.0"},
    ],
)
def test_a_published_feed_without_a_token_is_refused_in_one_line(
    start: Start, path: Path, changes: dict[str, object]
) -> None:
    process = start(**({"data_path": str(path)} | changes))
    assert process.wait() == 2
    host = changes.get("order_published_host", "0.0.0.0")
    assert "".join(process.lines) == (
        "gateway: invalid settings:\n"
        "ORDER_TOKEN_FILE: required, because other machines can reach the feed ports on "
        f"{host} (PUBLISH_HOST in Compose, BIND_HOST on the host); or set "
        "PUBLISH_FEED_OPEN=true, so that anybody may read the feed\n"
    )


@pytest.mark.parametrize("published", ["", "0.0.0.0"])
def test_a_feed_that_is_open_or_in_compose_on_loopback_needs_nothing(
    start: Start, path: Path, published: str
) -> None:
    host = published or "127.0.0.1"
    process = start(
        data_path=str(path),
        bind_host="0.0.0.0",
        order_published_host=host,
        publish_feed_open=bool(published),
    )
    price_port, _ = process.ports()
    with WireClient(price_port) as client:
        assert client.read_frames(1) == [b"SYMBOLS|AAPL,MSFT,F"]


def test_a_published_feed_without_tls_is_said(start: Start, path: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("0123456789abcdef")
    for published, lines in (("0.0.0.0", 1), ("127.0.0.1", 0)):
        process = start(
            data_path=str(path), order_token_file=str(token), order_published_host=published
        )
        process.ports()
        assert sum("feed_without_tls" in line for line in process.lines) == lines


def test_port_in_use(start: Start, path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = start(data_path=str(path), price_port=port)
        assert process.wait() == 1
    assert f"ports {port}, 0 and 0: Address already in use" in "".join(process.lines)


@pytest.mark.medium
def test_stop_while_loading(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "slow.csv"
    # Not in wire form, so each row is converted by itself, which is slow.
    path.write_text("timestamp,symbol,price\n" + "1759311000,A,1e0\n" * 1_500_000)
    process = start(data_path=str(path))
    process.read_until("loading percent=")
    process.child.terminate()
    assert process.wait() == 0


@pytest.mark.medium
def test_small_and_idle(start: Start) -> None:
    process = start(data_path=str(ROOT / "data" / "market_data.csv"), replay="walk")
    price_port, _ = process.ports()

    def cpu_ticks() -> int:
        fields = Path(f"/proc/{process.child.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    with WireClient(price_port, b"PING*") as client:
        client.read_to_end()
    before = cpu_ticks()
    time.sleep(1.5)
    # Three heartbeats; 2 % of a core would be 3 clock ticks of 10 ms.
    assert cpu_ticks() - before <= 3
    status = Path(f"/proc/{process.child.pid}/status").read_text()
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert peak is not None
    assert int(peak[1]) < 130_000


def test_a_process_of_the_stack_and_enough_descriptors_for_a_crowd(start: Start) -> None:
    """The usual limit of descriptors is 1024; the proof is in the metrics segment."""
    process = start(pace="10/s", price_subscribers=0, gateway_clients_max=1100)
    price_port, _ = process.ports()
    limits = Path(f"/proc/{process.child.pid}/limits").read_text()
    found = re.search(r"Max open files +(\d+)", limits)
    assert found
    assert int(found[1]) >= 1100 + 64 + 100
    proof = Path(f"/dev/shm/{process.metrics_name}").read_bytes()[24:40].hex()
    with WireClient(price_port, f"PROOF|{proof}*RESUME|290*".encode()) as ours:
        # At 10 ticks a second it would be due after 29 s: this client moves the stream.
        begun_s = time.monotonic()
        assert ours.read_frames(2)[1] == b"SEQ|290"
        ours.read_until(lambda data: data.count(b"*") >= 2 + 3)
        assert time.monotonic() - begun_s < 15


def test_readers_over_tls_have_descriptors_and_it_survives_when_none_are_left(
    start: Start, tmp_path: Path
) -> None:
    """Each needs three; the limit at the start is the usual one."""
    certificate = make_certificate(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        process = start(
            pace="10/s",
            price_subscribers=0,
            gateway_clients_max=500,
            order_tls_cert_file=certificate.cert,
            order_tls_key_file=certificate.key,
        )
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    price_port, _ = process.ports()
    pid = process.child.pid
    assert resource.prlimit(pid, resource.RLIMIT_NOFILE)[0] >= 3 * 500
    highest = max(int(each) for each in os.listdir(f"/proc/{pid}/fd"))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 10, hard))
    with ExitStack() as crowd:
        for _ in range(20):
            crowd.enter_context(WireClient(price_port, b"\x16\x03\x01"))
        process.read_until(" accept_failed ")
    with WireClient(price_port, b"PING*") as ping:
        assert ping.read_to_end() == b"PONG*"
