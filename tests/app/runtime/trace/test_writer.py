"""The order manager's notes: who has an ACK finds its stages, whatever was killed then."""

from pathlib import Path

import pytest

from app.config.settings import Settings
from app.runtime.trace.layout import STAGE_NAMES
from app.runtime.trace.reader import Attempt, trace_of
from tests.support.orders.frames import ORDER
from tests.support.orders.process import OrderManagerProcess
from tests.support.paths import ROOT

pytestmark = pytest.mark.medium

DIES = """
import os, signal, socket
send = socket.socket.send

def die(self, data, *flags):
    if {before}: os.kill(os.getpid(), signal.SIGKILL)
    send(self, data, *flags)
    os.kill(os.getpid(), signal.SIGKILL)

socket.socket.send = lambda *given: (die if b'"id":7,' in given[1] else send)(*given)
"""
BY_ORDER_MANAGER = STAGE_NAMES[STAGE_NAMES.index("order_received") : -1]


def attempts(manager: OrderManagerProcess) -> list[Attempt]:
    (order,) = trace_of(Settings.from_environ(manager.environ).shm_trace, 7)
    assert order.client == "desk"
    return order.attempts


@pytest.mark.parametrize("before", [False, True], ids=["after the ACK", "before the ACK"])
def test_killed_around_the_ack(tmp_path: Path, before: bool) -> None:
    order = {**ORDER, "id": 7, "client": "desk"}
    (tmp_path / "sitecustomize.py").write_text(DIES.format(before=before))
    with OrderManagerProcess(tmp_path, PYTHONPATH=f"{ROOT}:{tmp_path}") as manager:
        with manager.client() as client:
            client.send(order)
            if before:
                with pytest.raises((EOFError, ConnectionResetError)):
                    client.read()
            else:
                assert client.read()["ok"]
        assert manager.process is not None
        manager.process.wait(10)
        (only,) = attempts(manager)
        assert tuple(only.stage_ns) == BY_ORDER_MANAGER
        assert not only.repeated
        (tmp_path / "sitecustomize.py").unlink()
        manager.start()
        with manager.client() as client:
            assert client.ask(order)["duplicate"] is True
        first, second = attempts(manager)
        assert first == only
        assert tuple(second.stage_ns) == BY_ORDER_MANAGER
        assert second.repeated
        assert second.stage_ns["order_received"] > first.stage_ns["ack_sent"]
