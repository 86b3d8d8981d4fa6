"""``python -m app data record``, and Parquet out of ``data convert``."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from app.__main__ import main
from app.config.settings import Settings
from app.market_data.live.tick_log import TickLog
from app.market_data.sources.loader import columns_of, load_files, open_feed
from tests.app.market_data.live.fake_exchange import SYMBOLS, FakeExchange
from tests.support.children import eventually
from tests.support.feed_helpers import make_feed, make_settings, running, write_ticks
from tests.support.paths import ROOT

pytestmark = pytest.mark.medium


def environ(**changes: str) -> dict[str, str]:
    names = {name.upper() for name in Settings.__struct_fields__}
    kept = {name: value for name, value in os.environ.items() if name not in names}
    fast = {"RECONNECT_DELAY_MS": "20", "RECONNECT_DELAY_MS_MAX": "50", "LIVE_PING_S": "1"}
    return kept | {"PYTHONPATH": str(ROOT), "LIVE_SYMBOLS": ",".join(SYMBOLS)} | fast | changes


@contextlib.contextmanager
def recording(tmp_path: Path, *arguments: str, **changes: str) -> Iterator[Any]:
    """The command as a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "data", "record", *arguments],
        cwd=tmp_path,
        env=environ(**changes),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ended(process: Any, code: int = 0) -> str:
    out, err = process.communicate(timeout=30)
    assert process.returncode == code, (out, err)
    return str(out if code == 0 else err)


def count(path: Path) -> int:
    """How many ticks are recorded so far."""
    if not path.exists():
        return 0
    log = TickLog.read(path)
    log.close()
    return log.count


def test_ctrl_c_leaves_a_whole_file_with_every_trade(tmp_path: Path) -> None:
    out, ticks = tmp_path / "new" / "btc.parquet", tmp_path / "new" / "btc.ticks"
    with (
        FakeExchange(limit=1500) as exchange,
        recording(tmp_path, "new/btc.parquet", exchange.url) as process,
    ):
        eventually(lambda: count(ticks) == 1500, "all is recorded", ignore=(Exception,))
        process.send_signal(signal.SIGINT)
        said = ended(process)
    assert "new/btc.parquet: 1,500 ticks of 3 symbols\n" in said
    table = pq.read_table(out)
    assert table["trade_id"].to_pylist() == [each["t"] for each in exchange.sent]
    assert table["symbol"].to_pylist() == [each["s"] for each in exchange.sent]
    assert [str(p)[:-1] for p in table["price"].to_pylist()] == [e["p"] for e in exchange.sent]
    assert table["quantity"].to_pylist() == [0.015] * 1500
    received = table["receive_time"].cast("int64").to_pylist()
    assert all(abs(ns - time.time_ns()) < 60 * 10**9 for ns in received)
    assert sorted(path.name for path in out.parent.iterdir()) == ["btc.parquet"]
    assert main(["data", "check", str(out)]) == 0


def test_after_a_kill_the_same_command_goes_on(tmp_path: Path) -> None:
    ticks = tmp_path / "btc.ticks"
    with FakeExchange(per_s=300) as exchange:
        with recording(tmp_path, "btc.parquet", exchange.url) as process:
            eventually(lambda: count(ticks) > 100, "some are recorded", ignore=(Exception,))
            process.kill()
            process.wait()
        before = count(ticks)
        arguments = ("btc.parquet", exchange.url, "--ticks", str(before + 50))
        with recording(tmp_path, *arguments) as process:
            said = ended(process)
    assert f"{before + 50} ticks" in said
    assert " missing" in said
    assert pq.read_table(tmp_path / "btc.parquet").num_rows == before + 50
    assert not ticks.exists()


def test_seconds_end_it_and_nothing_is_no_file(tmp_path: Path) -> None:
    with (
        FakeExchange(limit=0) as exchange,
        recording(tmp_path, "a.parquet", exchange.url, "--seconds", "0.5") as process,
    ):
        assert "not written: no tick has arrived" in ended(process, 1)
    assert list(tmp_path.iterdir()) == []


def test_the_price_port_is_recorded_from_the_first_tick_on(tmp_path: Path) -> None:
    """Whatever the gateway has sent before; at its end the recording replays as its file does."""
    path = write_ticks(tmp_path / "feed.csv", 3000)
    settings = make_settings(
        pace="max", replay="once", price_subscribers=0, sentiment_subscribers=0
    )
    with running(make_feed(path, replay="once"), settings) as gateway:
        where = f"127.0.0.1:{gateway.price_port}"
        with recording(tmp_path, "port.parquet", where) as process:
            said = ended(process)
    assert "3,000 ticks of 3 symbols" in said
    columns = columns_of(Settings())
    file, port = (load_files(str(each), columns) for each in (path, tmp_path / "port.parquet"))
    assert file.event_ns.tolist() == port.event_ns.tolist()
    # Prices are the same numbers; the recording has the fewest digits.
    values = [[float(rows.frame(n).split(b"*")[2]) for n in range(3000)] for rows in (file, port)]
    assert values[0] == values[1]
    assert pq.read_table(tmp_path / "port.parquet")["trade_id"].to_pylist() == list(range(3000))


@pytest.mark.parametrize("same_run", [True, False])
def test_a_gateway_that_comes_back_goes_on_unless_with_another_run(
    tmp_path: Path, same_run: bool
) -> None:
    path = write_ticks(tmp_path / "feed.csv", 3000)
    other = path if same_run else write_ticks(tmp_path / "other.csv", 2000)
    slow = make_settings(pace="500/s", price_subscribers=0)
    ticks = tmp_path / "port.ticks"
    with contextlib.ExitStack() as stack:
        with running(make_feed(path), slow) as gateway:
            port = gateway.price_port
            process = stack.enter_context(recording(tmp_path, "port.parquet", f"127.0.0.1:{port}"))
            eventually(lambda: count(ticks) > 100, "ticks", ignore=(Exception,))
        with running(make_feed(other), make_settings(price_subscribers=0, price_port=port)):
            if not same_run:
                assert "has begun another run: record it into another file" in ended(process, 1)
                assert count(ticks) > 100, "what is recorded stays"
                return
            assert "3,000 ticks" in ended(process)
    ids = pq.read_table(tmp_path / "port.parquet")["trade_id"].to_pylist()
    assert ids == list(range(3000))


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["a.csv", "ws://x/ws"], 2, "must end in .parquet"),
        (["a.parquet", "nonsense"], 2, "SOURCE must be"),
        (["a.parquet", "127.0.0.1:9"], 1, "127.0.0.1:9: "),
        (["a.parquet", "ws://x/ws", "--ticks", "0"], 2, "--ticks"),
    ],
)
def test_what_record_refuses(tmp_path: Path, arguments: list[str], code: int, says: str) -> None:
    with recording(tmp_path, *arguments) as process:
        assert says in ended(process, code)
    assert list(tmp_path.iterdir()) == []


def test_without_symbols_it_says_so(tmp_path: Path) -> None:
    with recording(tmp_path, "a.parquet", "ws://x/ws", LIVE_SYMBOLS="") as process:
        assert "LIVE_SYMBOLS=: needs the symbols" in ended(process, 1)


# ---- convert


def test_a_recording_becomes_parquet_with_all_that_is_recorded(tmp_path: Path) -> None:
    ticks = tmp_path / "btc.ticks"
    with (
        FakeExchange(limit=300) as exchange,
        recording(tmp_path, "btc.parquet", exchange.url) as process,
    ):
        eventually(lambda: count(ticks) == 300, "all is recorded", ignore=(Exception,))
        process.kill()
        process.wait()
    assert main(["data", "convert", str(ticks), str(tmp_path / "out.parquet")]) == 0
    table = pq.read_table(tmp_path / "out.parquet")
    assert table["trade_id"].to_pylist() == [each["t"] for each in exchange.sent]
    assert "receive_time" in table.column_names


@pytest.mark.parametrize("sentiment", [False, True])
def test_a_text_file_becomes_parquet_that_replays_as_it_does(
    tmp_path: Path, sentiment: bool
) -> None:
    values = (lambda row: str(row % 101) if row % 3 else "") if sentiment else None
    path = write_ticks(tmp_path / "in.csv", 500, sentiment=values)
    out = tmp_path / "out.parquet"
    assert main(["data", "convert", str(path), str(out)]) == 0
    first = out.read_bytes()
    feeds = [open_feed(Settings(data_path=str(each), replay="once")) for each in (path, out)]
    assert [feeds[0].event_ns(n) for n in range(500)] == [feeds[1].event_ns(n) for n in range(500)]
    prices = [[float(feed.frame(n).split(b"*")[2]) for n in range(500)] for feed in feeds]
    assert prices[0] == prices[1]
    due = [feed.sentiments_due(0, 500) for feed in feeds]
    assert due[0][1].tolist() == due[1][1].tolist()
    assert due[0][0] == due[1][0]
    assert main(["data", "convert", str(path), str(out), "--force"]) == 0
    assert out.read_bytes() == first
