"""A bus that was made again, empty: publishers wait until ``setup`` has been there."""

import json
from pathlib import Path

import pytest

from app.bus.link import names
from app.bus.outbox.setup import make_all
from tests.support.bus.accounts import bus_with_accounts
from tests.support.bus.shard import ShardProcess
from tests.support.children import eventually
from tests.support.orders.frames import ORDER
from tests.support.orders.process import OrderManagerProcess


@pytest.mark.medium
def test_a_shard_waits_for_its_streams_and_publishes_all_again(tmp_path: Path) -> None:
    with (
        bus_with_accounts(tmp_path / "bus") as bus,
        OrderManagerProcess(tmp_path, run_id="r1") as manager,
        ShardProcess(bus.cluster, manager, **bus.settings("shard-a")) as shard,
    ):
        with manager.client() as client:
            for number in range(1, 6):
                assert client.ask({**ORDER, "id": number, "client": "desk"})["ok"]
        shard.wait_published(10)
        for stream in (names.out_stream("a"), names.CONTROL_STREAM):
            bus.as_user("setup", lambda link, s=stream: link.js.delete_stream(s))
        shard.kill()
        shard.start()
        for says in ("bus_unavailable", "there is no stream", "python -m app.bus setup"):
            eventually(lambda text=says: text in shard.log(), says)
        bus.as_user("setup", lambda link: make_all(link, ("a", "b"), bus.cluster.replicas))
        eventually(lambda: shard.status()["connected"], "it is connected", 20, poll_s=0.1)
        shard.wait_published(10)
        assert shard.process is not None
        assert shard.process.poll() is None
        assert "fatal" not in shard.log()
        found = bus.as_user("setup", lambda link: link.js.stream_info(names.out_stream("a")))
        assert found.state.messages == 10
        control = {
            "id": "x", "mode": "reduce", "reason": "test", "by": "test", "at_ns": 1, "version": 1
        }  # fmt: skip
        body = json.dumps(control).encode()
        bus.as_user("setup", lambda link: link.js.publish(names.control_subject("a"), body))
        eventually(lambda: "control_taken" in shard.log(), "the control is taken", 20)
