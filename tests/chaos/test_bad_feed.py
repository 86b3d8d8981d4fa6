"""A misbehaving link: the same result or a clear error, and no effect on other clients."""

import random
import socket
from pathlib import Path

import pytest

from app.backtest.outcome import first_difference
from tests.chaos.bad_feed import BadFeed, Cut, Faults, Mangler
from tests.chaos.host import HostStack
from tests.chaos.run_host import undisturbed
from tests.support.paths import ROOT

pytestmark = pytest.mark.medium

SAMPLE = ROOT / "data" / "market_data.csv"
PROXY_HOST = "127.0.0.2"
TICK = b"2025-10-01 09:30:00*AAPL*173.20*"


def short_file(folder: Path, rows: int) -> Path:
    """The first rows of the sample."""
    path = folder / "short.csv"
    path.write_text("".join(SAMPLE.read_text().splitlines(keepends=True)[: rows + 1]))
    return path


def run_through_proxy(
    folder: Path, data_path: Path, prices: Faults, sentiment: Faults
) -> tuple[HostStack, BadFeed]:
    """Run the stack to its end with a proxy in both feeds; fails unless it exits with 0."""
    stack = HostStack(
        folder / "run",
        data_path=data_path,
        gateway_host=PROXY_HOST,
        pace="max",
    )
    ports = (stack.price_port, stack.sentiment_port)
    proxies = [
        BadFeed(("127.0.0.1", port), faults, seed=3, listen=(PROXY_HOST, port))
        for port, faults in zip(ports, (prices, sentiment), strict=True)
    ]
    with stack, proxies[0], proxies[1]:
        code = stack.wait(60)
        assert code == 0, stack.tail(40)
    return stack, proxies[0]


NONE = Faults()


@pytest.mark.parametrize(
    ("name", "faults", "rows"),
    [
        ("every byte by itself", Faults(piece_bytes=1), 400),
        ("pieces of 7 bytes", Faults(piece_bytes=7), 3000),
        ("coalesced", Faults(coalesce_bytes=300_000), 30_000),
        ("reset every 1,000 bytes", Faults(reset_every_bytes=1000), 1500),
        ("reset every 40,000 bytes", Faults(reset_every_bytes=40_000), 30_000),
        ("half frames", Faults(drop_every_bytes=30_000), 30_000),
        ("garbage", Faults(garbage_per_mille=1), 10_000),
        ("delays", Faults(delay_per_mille=300, delay_s=0.05, piece_bytes=50_000), 30_000),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_same_result(tmp_path: Path, name: str, faults: Faults, rows: int) -> None:
    path = short_file(tmp_path, rows)
    expected = undisturbed(path)
    assert expected.orders or rows < 400
    # Sentiment resumes at marks 4,096 ticks apart: a reset before the next one makes no progress.
    other = faults._replace(reset_every_bytes=20_000) if faults.reset_every_bytes else faults
    stack, proxy = run_through_proxy(tmp_path, path, faults, other)
    assert first_difference(stack.outcome(), expected) is None, name
    if faults.reset_every_bytes or faults.drop_every_bytes or faults.garbage_per_mille:
        assert proxy.connections > 5


@pytest.mark.parametrize(
    "faults", [Faults(double_per_mille=0.2), Faults(lose_per_mille=0.2)], ids=["doubled", "lost"]
)
def test_ticks_doubled_or_lost_on_the_link_are_a_clear_error(
    tmp_path: Path, faults: Faults
) -> None:
    """The stream looks intact until the gateway states how many ticks it has sent."""
    stack = HostStack(tmp_path, data_path=SAMPLE, gateway_host=PROXY_HOST, pace="max")
    price_port, sentiment_port = stack.price_port, stack.sentiment_port
    with (
        BadFeed(("127.0.0.1", price_port), faults, 3, (PROXY_HOST, price_port)),
        BadFeed(("127.0.0.1", sentiment_port), NONE, 3, (PROXY_HOST, sentiment_port)),
        stack,
    ):
        code = stack.wait(60)
    log = stack.log_path.read_text()
    assert "damaged feed: the gateway has sent" in log
    if code == 0:  # a later attempt was not hit
        assert first_difference(stack.outcome(), undisturbed(SAMPLE)) is None
    else:
        assert "ERROR main fatal" in log


def test_another_client_of_the_same_gateway_is_unaffected(tmp_path: Path) -> None:
    stack = HostStack(tmp_path, data_path=SAMPLE, pace="20000/s")
    faults = Faults(garbage_per_mille=20, drop_every_bytes=5000)
    with (
        BadFeed(("127.0.0.1", stack.price_port), faults, 3) as proxy,
        stack,
    ):
        stack.wait_until(
            "ticks", lambda: stack.counter("strategy", "ticks_consumed") > 1000, timeout_s=20
        )
        for hello in (b"", b"RESUME|0*", b"nonsense*", b"RESUME|99999999999*"):
            with socket.create_connection(("127.0.0.1", proxy.port), 5) as victim:
                victim.sendall(hello)
                victim.settimeout(5)
                while victim.recv(65536):
                    pass
        assert stack.wait(60) == 0
        assert first_difference(stack.outcome(), undisturbed(SAMPLE)) is None


# ---- The proxy itself


def mangled(faults: Faults, data: bytes, chunk: int = 0, seed: int = 1) -> bytes:
    """Everything that a connection sends."""
    mangler = Mangler(faults, random.Random(seed))
    out = b""
    try:
        for start in range(0, len(data), chunk or len(data)):
            for piece in mangler.feed(data[start : start + (chunk or len(data))]):
                out += piece
    except Cut:
        pass
    return out


@pytest.mark.parametrize("chunk", [0, 1, 13])
def test_the_proxy_changes_only_what_it_is_told_to(chunk: int) -> None:
    data = b"SYMBOLS|AAPL*SEQ|0*" + TICK * 50 + b"BEAT|50*END|50*"
    assert mangled(Faults(), data, chunk) == data
    assert mangled(Faults(piece_bytes=3), data, chunk) == data
    assert mangled(Faults(reset_every_bytes=100), data, chunk) == data[:100]
    assert mangled(Faults(double_per_mille=1000), data, chunk).count(TICK) == 100
    assert mangled(Faults(lose_per_mille=1000), data, chunk).count(TICK) == 0
    assert mangled(Faults(garbage_per_mille=1000), data, chunk) != data
    cut = mangled(Faults(drop_every_bytes=200), data, chunk)
    assert data.startswith(cut)
    assert len(cut) < len(data)


def test_the_same_seed_does_the_same() -> None:
    faults = Faults(garbage_per_mille=100, double_per_mille=50, lose_per_mille=50)
    data = TICK * 300
    assert mangled(faults, data, 0, seed=4) == mangled(faults, data, 7, seed=4)
    assert mangled(faults, data, 0, seed=4) != mangled(faults, data, 0, seed=5)
