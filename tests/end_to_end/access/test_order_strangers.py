"""Strangers at the order port of a running stack: they do not change its trades, nor stop it."""

import re
from pathlib import Path

import pytest

from app.backtest.outcome import first_difference
from tests.chaos.host import HostStack
from tests.chaos.run_host import undisturbed
from tests.support.children import eventually
from tests.support.orders.frames import frame
from tests.support.orders.process import Client
from tests.support.paths import ROOT

pytestmark = pytest.mark.medium

SAMPLE = ROOT / "data" / "market_data.csv"
FUTURE = range(20_000, 21_000)
"""Ids of ticks that the run will reach."""


def strategys_name(stack: HostStack) -> str:
    """The client name in the strategy's orders, once it trades."""

    def find() -> str:
        found = re.search(r"Received Order \d+: .* client=(strategy@[0-9a-f]{8}) ", log(stack))
        return found[1] if found else ""

    return eventually(find, "an order of the strategy")


def log(stack: HostStack) -> str:
    return stack.log_path.read_text() if stack.log_path.exists() else ""


def forge(client: Client, name: str) -> list[str]:
    """Orders under the strategy's name with its future ids; the codes of the answers."""
    order = {"symbol": "AAPL", "qty": 1, "price": 5000.0, "client": name}
    # In one packet, before the run gets there.
    client.send(b"".join(frame(**order, id=number) for number in FUTURE))
    return [client.read().get("code", "ok") for _ in FUTURE]


def test_orders_and_commands_of_strangers_change_nothing(tmp_path: Path) -> None:
    expected = undisturbed(SAMPLE)
    with HostStack(tmp_path, data_path=SAMPLE, pace="5000/s") as stack:
        name = strategys_name(stack)
        with Client(stack.order_port) as stranger:
            assert set(forge(stranger, name)) == {"NOT_ALLOWED"}
            for request in (
                {"op": "halt", "kill": True},
                {"op": "reduce"},
                {"op": "cancel", "id": 1, "client": name},
                {"op": "halt", "client": name},
            ):
                assert stranger.ask(request)["code"] == "NOT_ALLOWED"
            assert stranger.ask({"op": "orders", "open": False})["orders"] == []
        assert stack.wait(60) == 0, stack.tail()
        assert first_difference(stack.outcome(), expected) is None
        assert log(stack).count("request_refused") < 20, "within bounds"


def test_whoever_has_the_shared_token_can_end_the_run_but_not_make_it_crash_for_ever(
    tmp_path: Path,
) -> None:
    """The one token of a bare file is everybody's: the strategy says so once, and ends."""
    token = tmp_path / "token"
    token.write_text("correct-horse-battery-staple")
    files = {"data_path": SAMPLE, "order_token_file": token}
    with HostStack(tmp_path / "run", pace="5000/s", **files) as stack:
        name = strategys_name(stack)
        with Client(stack.order_port, token=token.read_text()) as friend:
            assert set(forge(friend, name)) == {"ok"}
        assert stack.wait(60) == 1
        text = log(stack)
    assert text.count("ERROR strategy fatal") == 1
    assert "process_died" not in text
    assert "somebody else with the stack's token" in text.splitlines()[-1]


def test_a_new_token_in_the_middle_of_a_run_changes_no_trade(tmp_path: Path) -> None:
    """Whoever has the old one is cut off; the strategy has the token of the run's folder."""
    expected = undisturbed(SAMPLE)
    token = tmp_path / "token"
    token.write_text("the token of Monday, in hexadecimal")
    files = {"data_path": SAMPLE, "order_token_file": token}
    with HostStack(tmp_path / "run", pace="8000/s", **files) as stack:
        strategys_name(stack)
        with Client(stack.order_port, token=token.read_text()) as friend:
            token.write_text("the token of Tuesday, in hexadecimal")
            assert friend.closed()
        assert stack.wait(60) == 0, stack.tail()
        assert first_difference(stack.outcome(), expected) is None
        assert log(stack).count("credential_revoked") == 1
