"""The portfolio on a real broker: killed, cut off, told everything twice."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from nats.js import api
from prometheus_client.parser import text_string_to_metric_families

from app.bus.link import names
from app.bus.link.connection import Link
from tests.app.portfolio.fill_messages import NOON_NS, Told, decimal_sums
from tests.app.portfolio.on_bus.portfolio_process import (
    PortfolioProcess,
    beat,
    controls,
    environ_of,
    make_streams,
    on_bus,
    publish,
    publishing,
)
from tests.app.portfolio.order_stores import write_store
from tests.support.bus.accounts import bus_with_accounts
from tests.support.bus.broker import Cluster, cluster
from tests.support.paths import ROOT

pytestmark = [pytest.mark.medium, pytest.mark.timeout(120)]

SHARDS = "ab"


@pytest.fixture
def bus() -> Iterator[Cluster]:
    with cluster() as made:
        yield made


def some_fills(count: int, seed: int) -> list[Told]:
    """Of two shards, in each in the order of its numbers; prices differ from fill to fill."""
    rng, numbers = random.Random(seed), dict.fromkeys(SHARDS, 0)
    fills = []
    for _ in range(count):
        shard = rng.choice(SHARDS)
        numbers[shard] += 1
        fills.append(
            Told(
                shard=shard,
                fill_no=numbers[shard],
                at_ns=time.time_ns(),
                symbol=f"{shard.upper()}{rng.randrange(5)}",
                side=rng.choice(["BUY", "SELL"]),
                qty=rng.randint(1, 100),
                price=rng.randint(1, 10**12),
                fee=rng.randint(0, 10**9),
            )
        )
    return fills


def repeated(fills: list[Told], seed: int) -> list[Told]:
    """As publishers that lose their mark: at some places they go back and tell again."""
    rng, told = random.Random(seed), []
    for index, fill in enumerate(fills):
        told.append(fill)
        if rng.random() < 0.05:
            told += fills[max(0, index - rng.randrange(10)) : index + 1]
    return told


def check_sums(state: dict[str, Any], fills: list[Told]) -> None:
    today = time.strftime("%Y-%m-%d", time.gmtime(state["day"] * 86_400))
    sums = decimal_sums(fills, today)
    assert [row["symbol"] for row in state["symbols"]] == list(sums)
    for row in state["symbols"]:
        expected = sums[row["symbol"]]
        assert Decimal(row["qty"]) == expected.qty
        assert Decimal(row["pnl"]) == expected.pnl
        assert Decimal(row["day_pnl"]) == expected.day_pnl
        assert Decimal(row["fees"]) == expected.fees
        assert sum(map(Decimal, row["shards"].values())) == expected.qty
    assert Decimal(state["total"]["pnl"]) == sum(s.pnl for s in sums.values())
    assert Decimal(state["total"]["exposure"]) == sum(abs(s.qty * s.mark) for s in sums.values())


def verify(portfolio: PortfolioProcess, folder: Path, fills: list[Told]) -> tuple[int, str]:
    """The command, against the order stores that the shards would have."""
    stores = [
        f"{s}={write_store(folder / f'{s}.sqlite3', [f for f in fills if f.shard == s])}"
        for s in SHARDS
    ]
    command = [sys.executable, "-m", "app", "portfolio", "verify", *stores]
    done = subprocess.run(
        [*command, "--books", portfolio.books], cwd=ROOT, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


def test_killed_and_cut_off_it_has_the_sum_of_the_shards(bus: Cluster, tmp_path: Path) -> None:
    rng, fills = random.Random(15), some_fills(1500, 15)
    make_streams(bus, SHARDS)
    with PortfolioProcess(bus, tmp_path) as portfolio:
        portfolio.wait(lambda state: len(state["shards"]) == 2, "both shards are found")
        sending = publishing(bus, repeated(fills, 16))
        for _ in range(4):
            time.sleep(rng.uniform(0.1, 0.4))
            portfolio.end(signal.SIGKILL)
            portfolio.start()
            portfolio.wait(lambda state: state["bus"]["connected"], "it is on the bus again")
        bus.brokers[0].restart()
        bus.wait_ready()
        sending.join(60)
        state = portfolio.wait_level(len(fills))
        check_sums(state, fills)
        assert sum(shard["repeats"] for shard in state["shards"]) > 0
        assert all(shard["refused"] == shard["lost"] == 0 for shard in state["shards"])
        code, said = verify(portfolio, tmp_path, fills)
        assert code == 0, said
        assert portfolio.end(signal.SIGTERM) == 0
        assert "stopped exit_code=0" in portfolio.text().splitlines()[-1]


def test_past_a_limit_each_shards_stream_has_one_control_whoever_dies(
    bus: Cluster, tmp_path: Path
) -> None:
    make_streams(bus, SHARDS)
    limits = {"portfolio_exposure_max": 5000, "portfolio_on_limit": "halt"}
    with PortfolioProcess(bus, tmp_path, **limits) as portfolio:
        publish(bus, [Told(qty=40), Told(shard="b", symbol="X", qty=10)])
        state = portfolio.wait_level(2)
        assert state["limits"][0] | {"used": 1.0} == {
            "limit": "exposure", "setting": "PORTFOLIO_EXPOSURE_MAX", "mode": "halt",
            "value": "5000.00", "most": "5000.00", "used": 1.0, "passed": False,
        }  # fmt: skip
        assert controls(bus) == []
        broker = bus.brokers[0]
        publish(bus, [Told(fill_no=2, qty=1)])
        broker.freeze()  # the decision may be made, and cannot be sent
        time.sleep(0.3)
        portfolio.end(signal.SIGKILL)
        broker.thaw()
        portfolio.start()
        portfolio.wait_level(3)
        portfolio.wait(lambda state: state["breaches"] and not state["unsent"], "it is sent")
        sent = controls(bus)
        assert {subject for subject, _ in sent} == {"control.a", "control.b"}
        assert len({message["id"] for _, message in sent}) == 2
        for _, message in sent:
            assert (message["mode"], message["by"]) == ("halt", "portfolio")
            assert message["reason"] == "exposure over all shards is 5100.00, the limit 5000.00"
        # Nothing is ever resumed, and a breach that goes on is told once.
        publish(bus, [Told(fill_no=3, qty=41, side="SELL")])
        state = portfolio.wait_level(4)
        assert not state["limits"][0]["passed"]
        portfolio.end(signal.SIGKILL)
        portfolio.start()
        portfolio.wait_level(4)
        assert {message["mode"] for _, message in controls(bus)} == {"halt"}
        assert len({message["id"] for _, message in controls(bus)}) == 2


def test_prices_of_the_market_value_what_is_held(bus: Cluster, tmp_path: Path) -> None:
    make_streams(bus, "a")

    async def tell_prices(link: Link) -> None:
        await link.js.add_stream(
            api.StreamConfig(name="MD_a", subjects=["md.a"], allow_direct=True)
        )
        ticks = b"2025-10-01 09:30:00*AAPL*80.5*2025-10-01 09:30:01*X*1*"
        headers = {"Kind": "ticks", "Price-Bytes": str(len(ticks))}
        await link.js.publish(names.md_subject("a"), ticks + b"SEQ|2*", headers=headers)
        await link.js.publish(names.md_subject("a"), b"", headers={"Kind": "end"})

    with PortfolioProcess(bus, tmp_path, portfolio_daily_loss_max=150) as portfolio:
        publish(bus, [Told(qty=10, at_ns=time.time_ns())])
        state = portfolio.wait_level(1)
        assert state["total"]["pnl"] == "0.00"
        on_bus(bus, tell_prices)
        state = portfolio.wait(lambda state: state["breaches"] != [], "the loss is seen")
        assert state["total"]["day_pnl"] == "-195.00"
        assert state["symbols"][0]["mark"] == "80.50"
        assert state["breaches"][0]["reason"].startswith("daily_loss over all shards is 195.00")


@pytest.mark.slow
def test_without_a_bus_it_shows_what_it_has_and_waits(bus: Cluster, tmp_path: Path) -> None:
    make_streams(bus, "a")
    publish(bus, [Told()])
    with PortfolioProcess(bus, tmp_path) as portfolio:
        portfolio.wait_level(1)
        assert portfolio.get("/readyz")[0] == 200
        bus.brokers[0].kill()
        state = portfolio.wait(lambda state: not state["bus"]["connected"], "it is cut off")
        assert state["bus"]["problem"]
        assert state["symbols"][0]["qty"] == "10"
        assert portfolio.get("/readyz")[0] == 503
        portfolio.wait(lambda state: state["shards"][0]["lag_s"] > 0, "the lag grows")
        portfolio.end()
        portfolio.start()
        state = portfolio.wait(lambda state: bool(state["bus"]["problem"]), "it starts without")
        assert state["symbols"][0]["qty"] == "10"
        assert state["judges"] is False or state["shards"][0]["reading"] is False
        bus.brokers[0].start()
        bus.wait_ready()
        publish(bus, [Told(fill_no=2)])
        assert portfolio.wait_level(2)["symbols"][0]["qty"] == "20"


def test_a_stream_that_lost_its_beginning_is_said(bus: Cluster, tmp_path: Path) -> None:
    async def make_short(link: Link) -> None:
        subjects = [names.orders_subject("a"), names.fills_subject("a")]
        config = api.StreamConfig(name=names.out_stream("a"), subjects=subjects, max_msgs=3)
        await link.js.add_stream(config)

    on_bus(bus, make_short)
    publish(bus, [Told(fill_no=no) for no in range(1, 11)])
    with PortfolioProcess(bus, tmp_path) as portfolio:
        state = portfolio.wait_level(3)
        assert state["shards"][0]["lost"] == 7
        assert "messages_lost shard=a messages=7" in portfolio.text()


def test_figures_health_and_page(bus: Cluster, tmp_path: Path) -> None:
    make_streams(bus, "a")
    publish(bus, [Told(at_ns=NOON_NS), Told(fill_no=2, side="SELL", price=110 * 10**9)])
    with PortfolioProcess(bus, tmp_path) as portfolio:
        state = portfolio.wait_level(2)
        assert state["shards"][0]["run"] == "r"
        portfolio.wait(lambda state: state["shards"][0]["last_message_ms"], "its end is seen")
        beat(bus, "a")
        portfolio.wait(lambda state: state["shards"][0]["lag_s"] == 0, "its publisher is heard")
        families = text_string_to_metric_families(portfolio.get("/metrics")[1].decode())
        found = {
            (sample.name, *sample.labels.values()): sample.value
            for family in families
            for sample in family.samples
        }
        assert found["trading_portfolio_fills_total", "a"] == 2
        assert found["trading_portfolio_lag_messages", "a"] == 0
        assert found["trading_portfolio_lag_seconds", "a"] >= 0
        assert 0 <= found["trading_portfolio_heartbeat_age_seconds", "a"] < 60
        assert 0 <= found["trading_portfolio_last_message_age_seconds", "a"] < 60
        assert found["trading_portfolio_pnl", ""] == found["trading_portfolio_pnl", "a"] == 100
        assert found["trading_portfolio_bus_connected",] == 1
        assert found["trading_portfolio_controls_unsent",] == 0
        for path, begins in [
            ("/", b"<!doctype html>"), ("/static/portfolio.js", b"//"), ("/login", b"<!doctype"),
            ("/static/style.css", b"/*"), ("/healthz", b'{"ok":true}'),
        ]:  # fmt: skip
            status, body = portfolio.get(path)
            assert (status, body.startswith(begins)) == (200, True), path
        assert portfolio.get("/static/../process.py")[0] == 404
        assert portfolio.get("/static/app.js")[0] == 404, "the dashboard's own page"
        assert portfolio.get("/state", {"Host": "evil.example"})[0] == 421
        health = [sys.executable, "-S", "-m", "app.runtime.container.health", "portfolio"]
        ask = lambda: subprocess.run(health, cwd=ROOT, env=environ_of(portfolio)).returncode  # noqa: E731
        assert ask() == 0
        portfolio.end()
        assert ask() == 1


@pytest.mark.slow
def test_other_machines_need_a_token(bus: Cluster, tmp_path: Path) -> None:
    with PortfolioProcess(bus, tmp_path, portfolio_host="0.0.0.0") as portfolio:
        assert portfolio.process is not None
        assert portfolio.process.wait(20) == 2
        assert "other machines can reach the portfolio" in portfolio.text()
        portfolio.process = None
    tokens = tmp_path / "tokens"
    tokens.write_text("operator-token-0123 role=operator\nclient-token-0123456 client=alice\n")
    tokens.chmod(0o600)
    guarded = {"portfolio_host": "0.0.0.0", "order_token_file": tokens}
    with PortfolioProcess(bus, tmp_path, **guarded) as portfolio:
        own = {"Authorization": "Bearer operator-token-0123"}
        portfolio.wait(lambda state: "shards" in state or not state["ok"], "it serves")
        assert portfolio.get("/state")[0] == 401
        assert portfolio.get("/metrics")[0] == 401
        assert portfolio.get("/state", {"Authorization": "Bearer client-token-0123456"})[0] == 401
        assert portfolio.get("/state", own)[0] == 200
        assert portfolio.get("/login")[0] == 200


def test_a_shard_of_the_map_is_told_before_it_has_a_stream(bus: Cluster, tmp_path: Path) -> None:
    shard_map = tmp_path / "shards.json"
    shard_map.write_text('{"version": 1, "shards": {"a": ["AAPL"], "later": ["X"]}}')
    make_streams(bus, "a")
    limits = {"portfolio_exposure_max": 100, "shard_map": shard_map}
    with PortfolioProcess(bus, tmp_path, **limits) as portfolio:
        publish(bus, [Told()])
        state = portfolio.wait(lambda state: len(state["controls"]) == 2, "both are told")
        assert [shard["shard"] for shard in state["shards"]] == ["a", "later"]
        assert state["shards"][1]["problem"] == "there is no stream OUT_later yet"
        portfolio.wait(lambda state: not state["unsent"], "the stream has both")
        assert {subject for subject, _ in controls(bus)} == {"control.a", "control.later"}


def test_the_rights_of_its_own_user_are_enough(tmp_path: Path) -> None:
    """On brokers with the accounts of images/cluster: nothing that it asks for is denied."""
    keys = tmp_path / "keys"
    keys.mkdir()

    async def tell(link: Link) -> None:
        ticks = b"2025-10-01 09:30:00*AAPL*90*"
        headers = {"Kind": "ticks", "Price-Bytes": str(len(ticks))}
        await link.js.publish(names.fills_subject("a"), Told().message())
        await link.js.publish(names.md_subject("a"), ticks, headers=headers)

    with bus_with_accounts(keys) as bus:
        bus.as_user("setup", tell)
        own = {name.lower(): value for name, value in bus.settings("portfolio").items()}
        with PortfolioProcess(
            bus.cluster, tmp_path, portfolio_exposure_max=500, **own
        ) as portfolio:
            state = portfolio.wait(
                lambda state: state["symbols"] != [] and state["symbols"][0]["mark"] == "90.00",
                "it has fills and prices",
            )
            assert [shard["shard"] for shard in state["shards"]] == ["a", "b"]
            portfolio.wait(lambda state: state["controls"] and not state["unsent"], "it is sent")
            assert "bus_denied" not in portfolio.text()


def test_a_map_that_is_none_is_refused(tmp_path: Path) -> None:
    bus = Cluster()
    try:
        with PortfolioProcess(bus, tmp_path, shard_map="nowhere.json") as portfolio:
            assert portfolio.process is not None
            assert portfolio.process.wait(20) == 2
            assert "SHARD_MAP=nowhere.json: " in portfolio.text()
            portfolio.process = None
    finally:
        bus.close()


def test_without_an_address_it_says_so(tmp_path: Path) -> None:
    bus = Cluster()
    try:
        with PortfolioProcess(bus, tmp_path, bus_url="") as portfolio:
            assert portfolio.process is not None
            assert portfolio.process.wait(20) == 2
            assert "BUS_URL: required here" in portfolio.text()
            portfolio.process = None
    finally:
        bus.close()
