"""The wall clock jumps while the stack runs: nothing expires, nothing is reordered."""

import threading
import time
from pathlib import Path

import pytest

from app.backtest.outcome import of_store
from app.order_manager import service as order_service
from app.order_manager.service import AnchoredClock
from tests.support.orders.process import Client
from tests.support.orders.server import running

HOUR_NS = 3_600_000_000_000


class WallClock:
    """``time.time_ns`` plus a shift."""

    def __init__(self) -> None:
        self.shift_ns = 0
        self._real = time.time_ns

    def __call__(self) -> int:
        return self._real() + self.shift_ns


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> WallClock:
    """The wall clock of this process."""
    clock = WallClock()
    monkeypatch.setattr(order_service.time, "time_ns", clock)
    monkeypatch.setattr(time, "time", lambda: clock() / 1e9)
    return clock


@pytest.mark.parametrize("shift_ns", [HOUR_NS, -HOUR_NS, 48 * HOUR_NS, -48 * HOUR_NS])
def test_the_order_managers_clock_does_not_jump(wall: WallClock, shift_ns: int) -> None:
    clock = AnchoredClock()
    before_ns = clock()
    wall.shift_ns = shift_ns
    assert 0 <= clock() - before_ns < 10**9


def test_a_start_with_the_clock_set_back_continues_after_the_last_time(wall: WallClock) -> None:
    last_ns = AnchoredClock()()
    wall.shift_ns = -HOUR_NS
    assert AnchoredClock(last_ns)() >= last_ns


def test_clock_jumps_under_load_expire_and_reorder_nothing(tmp_path: Path, wall: WallClock) -> None:
    with running(tmp_path, run_id="r", risk_known_symbols=False) as server:
        with Client(server.port) as client:
            resting = {"side": "BUY", "symbol": "AAPL", "qty": 5, "price": 1.0, "id": 1}
            client.send({**resting, "type": "LIMIT", "tif": "DAY", "client": "day"})
            assert client.read()["order"]["status"] == "New"
        stop = threading.Event()

        def jump() -> None:
            while not stop.is_set():
                for shift_ns in (HOUR_NS, -HOUR_NS, 30 * HOUR_NS, 0):
                    wall.shift_ns = shift_ns
                    stop.wait(0.002)

        jumper = threading.Thread(target=jump)
        jumper.start()
        try:
            with Client(server.port) as client:
                for number in range(1, 301):
                    order = {"side": "BUY", "symbol": "AAPL", "qty": 1, "price": 100.0}
                    assert client.ask({**order, "id": number, "client": "desk"})["ok"]
                found = client.ask({"op": "status", "id": 1, "client": "day"})
        finally:
            stop.set()
            jumper.join()
        assert found["order"]["status"] == "New", "expired by a jump of the clock"
    outcome = of_store(tmp_path / "orders.sqlite3")
    desk = [line.tick + 1 for line in outcome.orders if line.client == "desk"]
    assert desk == list(range(1, 301))


def test_nothing_on_the_path_of_a_tick_reads_the_wall_clock() -> None:
    """Paces, timeouts, ages and staleness are measured on the monotonic clock."""
    app = Path(order_service.__file__).parents[1]
    rooms = ("gateway", "orderbook", "strategy", "execution", "runtime/net")
    paths = {path for room in rooms for path in (app / room).glob("*.py")}
    # At the start only: until when a certificate is valid.
    paths.discard(app / "runtime/net/access_files.py")
    single = ("order_manager/book_prices.py", "shared_memory_utils/tick_ring.py")
    for path in sorted(paths | {app / name for name in single}):
        text, name = path.read_text(), str(path.relative_to(app))
        for call in ("time.time(", "time_ns()", "datetime.now", "time.localtime"):
            found = text.replace("monotonic_ns()", "")
            assert call not in found, f"{name} uses {call}"
