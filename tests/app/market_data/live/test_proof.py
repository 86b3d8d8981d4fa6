"""The proof beside a live run: the undisturbed computation reads the recording as it grows."""

import json
import signal
from pathlib import Path

import pytest

from tests.app.backtest.proof.test_proof import (
    all_equal,
    proving,
    store_of_a_dead_order_manager,
)
from tests.app.market_data.live.fake_exchange import FakeExchange
from tests.app.market_data.live.test_stack import PATIENCE_S, live_stack, settle

pytestmark = pytest.mark.medium


def test_it_follows_a_live_run_whatever_fails(tmp_path: Path) -> None:
    """From before its recording begins; kills, and a connection that breaks: one gap for both."""
    with (
        FakeExchange(per_s=600) as exchange,
        live_stack(tmp_path, exchange, chaos="true") as stack,
        # How long it waits for an order manager once the stack is gone.
        proving(stack, STALL_TIMEOUT_S="5") as proof,
    ):
        proof.wait_for(lambda line: line["equal"] > 10, "orders", PATIENCE_S)
        for victim in ("order_manager", "strategy", "gateway"):
            before = proof.line["equal"]
            assert stack.command("chaos", "kill", victim).returncode == 0, stack.tail()
            proof.wait_for(lambda line, n=before: line["equal"] > n + 10, victim, PATIENCE_S)
        exchange.later(FakeExchange.drop)
        before = proof.line["equal"]
        proof.wait_for(lambda line: line["equal"] > before + 10, "after a gap", PATIENCE_S)
        ticks = settle(stack, exchange)
        answered = stack.counter("strategy", "orders_acked")
        proof.wait_for(all_equal(answered), "all orders", PATIENCE_S)
        line = proof.wait_for(lambda line: line["ticks"] == ticks, "all ticks", PATIENCE_S)
        assert line["difference"] is None
        compared = stack.command("compare")
        assert compared.returncode == 0, compared
        stack.stop()
        assert proof.end() == 0, proof.why()
        assert line["hash"] in json.dumps(json.loads((tmp_path / "report.json").read_text()))


def test_it_says_which_order_of_a_live_run_is_another(tmp_path: Path) -> None:
    """Order and recording say different things: the store is changed under the stack."""
    with FakeExchange(per_s=600) as exchange, live_stack(tmp_path, exchange) as stack:
        stack.wait_ready()
        stack.wait_until(
            "orders", lambda: stack.counter("strategy", "orders_acked") > 15, PATIENCE_S
        )
        with store_of_a_dead_order_manager(stack) as store:
            store.execute("UPDATE orders SET qty = qty + 1 WHERE order_no = 5")
            order_id = store.execute("SELECT id FROM orders WHERE order_no = 5").get
        with proving(stack) as proof:
            line = proof.wait_for(lambda line: line["difference"], "a difference", PATIENCE_S)
            assert (line["difference"]["id"], line["difference"]["field"]) == (order_id, "qty")
            assert proof.end(signal.SIGTERM) == 1, proof.why()
