"""Backtests of others: that they trade the same is what makes their speed comparable."""

from pathlib import Path

import numpy as np
import pytest

from tests.bench.model import Absent, Context
from tests.bench.subjects import backtests
from tests.bench.subjects.backtests import BUILT_IN, ON_TICK, ORDER, PEERS, SAMPLE, Peer


@pytest.fixture
def context(tmp_path: Path) -> Context:
    (tmp_path / "work").mkdir()
    return Context(True, tmp_path / "data", tmp_path / "work")


ORDERS = np.array([(20, 0, 10, 173.2), (31, 1, -10, 41.85), (40, 0, -20, 172.9)], ORDER)


def test_the_same_orders_pass_whatever_the_last_bit_of_a_price() -> None:
    found = ORDERS.copy()
    found["price"] = np.nextafter(found["price"], 1e9)
    backtests._check(found, ORDERS)


@pytest.mark.parametrize(
    ("field", "value"), [("tick", 32), ("symbol", 2), ("signed_qty", 10), ("price", 41.86)]
)
def test_another_order_is_named(field: str, value: float) -> None:
    found = ORDERS.copy()
    found[1][field] = value
    with pytest.raises(AssertionError, match="order 1 is "):
        backtests._check(found, ORDERS)


def test_an_order_too_few_or_too_many_is_a_difference() -> None:
    with pytest.raises(AssertionError, match="2 orders, not 3"):
        backtests._check(ORDERS[:2], ORDERS)
    with pytest.raises(AssertionError, match="3 orders, not 2"):
        backtests._check(ORDERS, ORDERS[:2])


def test_a_peer_that_is_not_installed_is_absent(
    context: Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(backtests, "PEERS_FOLDER", tmp_path)
    with pytest.raises(Absent, match="make bench PART=backtest"):
        backtests.peer(context, PEERS[0], SAMPLE)
    assert PEERS[0].title == "vectorbt"


@pytest.mark.medium
def test_a_users_on_tick_trades_like_the_built_in_strategy(context: Context) -> None:
    built_in = backtests.ours(context, SAMPLE, BUILT_IN)
    assert backtests.ours(context, SAMPLE, ON_TICK)["orders"] == built_in["orders"] > 500


@pytest.mark.medium
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_peer_trades_like_the_built_in_strategy(context: Context, peer: Peer) -> None:
    if not (backtests.PEERS_FOLDER / peer.name).exists():
        pytest.skip(f"{peer.name} is not installed: make bench PART=backtest")
    assert backtests.peer(context, peer, SAMPLE)["orders"] > 500
