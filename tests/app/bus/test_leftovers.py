"""What tests of the bus start leaves nothing behind, whatever ends them."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.bus.broker import Broker, Cluster
from tests.support.children import Child, eventually


def test_a_broker_that_does_not_end_keeps_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Cluster(3)
    for broker in made.brokers:
        broker.process = subprocess.Popen(["sleep", "60"])
    last = made.brokers[-1].process
    assert last is not None
    end = Broker.kill

    def hang(broker: Broker) -> None:
        end(broker)
        if broker is not made.brokers[-1]:
            raise subprocess.TimeoutExpired("nats-server", 20)

    monkeypatch.setattr(Broker, "kill", hang)
    with pytest.raises(subprocess.TimeoutExpired):
        made.close()
    assert last.poll() is not None
    assert not made.folder.exists()


STARTER = """
import sys
from pathlib import Path
from types import SimpleNamespace

from tests.support.bus.broker import Cluster
from tests.support.bus.shard import ShardProcess

bus, folder = Cluster(), Path(sys.argv[1])
bus.start()
manager = SimpleNamespace(folder=folder, environ={"OUTPUT_DIR": str(folder)}, port=9)
shard = ShardProcess(bus, manager).start()
print(bus.folder, bus.brokers[0].process.pid, shard.process.pid, flush=True)
input()
"""


def runs(pid: str) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        stat = Path("/proc", pid, "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.medium
def test_broker_and_publisher_die_with_the_test_process(tmp_path: Path) -> None:
    child, folder = Child(STARTER, tmp_path), ""
    try:
        folder, *pids = child.line().split()
        assert [runs(pid) for pid in pids] == [True, True]
        child.kill()
        for pid in pids:
            eventually(lambda pid=pid: not runs(pid), f"{pid} is gone")
    finally:
        child.close()
        if folder:
            shutil.rmtree(folder)
