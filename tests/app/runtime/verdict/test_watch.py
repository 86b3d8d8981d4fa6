"""How the run ends, by what the containers' processes leave behind."""

import msgspec
import pytest

from app.runtime.verdict.life import Life
from app.runtime.verdict.watch import EARLIER_GRACE_S, End, Watch

EPOCH = "owner@1"
STARTED_NS = 1_000
SERVICES = ("gateway", "orderbook", "order_manager", "strategy")
PATIENCE_S = 30.0


def life(service: str, host: str = "", **changes: object) -> Life:
    base = Life(service, host or f"{service}-1", EPOCH, 1, STARTED_NS + 1)
    return msgspec.structs.replace(base, **changes)


def failed(service: str, code: int, reason: str, **changes: object) -> Life:
    return life(service, ended=True, final=True, exit_code=code, reason=reason, **changes)


class Stack:
    """Records of a stack, and a clock."""

    def __init__(self, strategies: int = 1, *, owner_died: bool = False) -> None:
        self.now_s = 100.0
        self.records = {f"{s}-1": (life(s), True) for s in SERVICES}
        for number in range(2, strategies + 1):
            host = f"strategy-{number}"
            self.records[host] = (life("strategy", host), True)
        self.watch = Watch(
            EPOCH,
            strategies,
            PATIENCE_S,
            now_s=self.now_s,
            wall_ns=STARTED_NS,
            owner_died=lambda: owner_died,
        )

    def check(self, after_s: float = 0.0) -> End | None:
        self.now_s += after_s
        return self.watch.check(self.records.values(), self.now_s)

    def put(self, record: Life, alive: bool = False) -> None:
        self.records[record.host] = (record, alive)


def test_a_living_stack_has_no_end() -> None:
    stack = Stack()
    assert stack.check() is None
    assert stack.check(10 * PATIENCE_S) is None


def test_a_complete_run() -> None:
    stack = Stack()
    stack.put(life("strategy", ended=True, final=True))
    assert stack.check() == End(0, "", True)


def test_a_run_that_was_complete_before_the_watch_is_not_this_run() -> None:
    """The strategy is about to be started again; with the same container, or with another."""
    done = life("strategy", ended=True, final=True, started_ns=STARTED_NS - 500)
    stack = Stack()
    stack.put(done)
    assert stack.check() is None
    assert stack.check(EARLIER_GRACE_S - 1) is None
    stack.put(done, alive=True)
    assert stack.check(2) is None, "it has started, and has not announced itself yet"
    stack.put(life("strategy", starts=2), alive=True)
    assert stack.check(0.1) is None
    stack.put(life("strategy", starts=2, ended=True, final=True), alive=True)
    assert stack.check(0.1) is None, "it is ending"
    stack.put(life("strategy", starts=2, ended=True, final=True))
    assert stack.check(0.1) == End(0, "", True)


def test_a_run_that_is_complete_and_stays_so() -> None:
    stack = Stack()
    stack.put(life("strategy", ended=True, final=True, started_ns=STARTED_NS - 500))
    assert stack.check() is None
    assert stack.check(EARLIER_GRACE_S) == End(0, "", True)


def test_a_run_that_began_before_the_watch_and_ends_during_it() -> None:
    stack = Stack()
    stack.put(life("strategy", started_ns=STARTED_NS - 500), alive=True)
    assert stack.check() is None
    stack.put(life("strategy", ended=True, final=True, started_ns=STARTED_NS - 500))
    assert stack.check(0.1) == End(0, "", True)


@pytest.mark.parametrize("code", [1, 3, 4])
def test_the_strategy_judges_its_run(code: int) -> None:
    stack = Stack()
    stack.put(failed("strategy", code, "why"))
    assert stack.check() == End(code, "why", True)


@pytest.mark.parametrize(
    ("service", "code"), [("gateway", 1), ("order_manager", 2), ("strategy", 2)]
)
def test_another_end_that_is_final_names_the_service(service: str, code: int) -> None:
    stack = Stack()
    stack.put(failed(service, code, "why"))
    assert stack.check() == End(code, f"{service}: why")


def test_a_fault_that_may_pass_is_given_time() -> None:
    stack = Stack()
    stack.put(life("orderbook", ended=True, exit_code=1, reason="damaged feed"))
    assert stack.check() is None
    assert stack.check(PATIENCE_S - 1) is None
    end = stack.check(1)
    assert end is not None
    assert end.exit_code == 1
    assert end.reason == (
        "orderbook has ended and did not come back within 30 s (STALL_TIMEOUT_S): damaged feed"
    )


def test_a_restarted_process_is_back() -> None:
    stack = Stack()
    stack.put(life("orderbook"), alive=False)
    assert stack.check() is None
    assert stack.check(PATIENCE_S - 1) is None
    stack.put(life("orderbook", starts=2), alive=True)
    assert stack.check(2) is None
    stack.put(life("orderbook", starts=2), alive=False)
    assert stack.check() is None, "its patience begins again"


def test_a_killed_container_is_named() -> None:
    stack = Stack()
    stack.put(life("order_manager"), alive=False)
    assert stack.check() is None
    end = stack.check(PATIENCE_S)
    assert end is not None
    assert (end.exit_code, end.reported) == (1, False)
    assert end.reason.startswith("order_manager was killed and did not come back within 30 s")


def test_a_stopped_stack_is_an_incomplete_run() -> None:
    """All were stopped, and so was the owner of the memory: nothing to wait for."""
    stopped = life("strategy", ended=True, exit_code=3, reason="Incomplete: stopped by SIGTERM")
    for owner_died, after_s in ((True, 0.0), (False, PATIENCE_S)):
        stack = Stack(owner_died=owner_died)
        for service in SERVICES:
            stack.put(life(service, ended=True))
        stack.put(stopped)
        if after_s:
            assert stack.check() is None
        assert stack.check(after_s) == End(3, "Incomplete: stopped by SIGTERM", True)


def test_the_death_of_the_owner_is_named() -> None:
    stack = Stack(owner_died=True)
    for service in SERVICES:
        stack.put(life(service, ended=True, exit_code=1, reason="the container that owns ..."))
    stack.check()
    end = stack.check(PATIENCE_S)
    assert end is not None
    assert end.exit_code == 1
    assert end.reason.startswith("shm is gone")


def test_a_process_that_keeps_dying() -> None:
    stack = Stack()
    stack.check()
    for starts in range(2, 6):
        stack.put(life("gateway", starts=starts, ended=True, exit_code=1, reason="no port"))
        assert stack.check(1) is None
    stack.put(life("gateway", starts=6, ended=True, exit_code=1, reason="no port"))
    end = stack.check(1)
    assert end is not None
    assert (end.exit_code, end.reason) == (1, "gateway keeps dying (5 restarts in 60 s): no port")


def test_rare_crashes_are_mended() -> None:
    stack = Stack()
    for starts in range(2, 12):
        stack.put(life("gateway", starts=starts), alive=True)
        assert stack.check(20) is None


def test_a_service_that_never_starts() -> None:
    stack = Stack()
    del stack.records["order_manager-1"]
    assert stack.check(PATIENCE_S - 1) is None
    end = stack.check(1)
    assert end is not None
    assert (end.exit_code, end.reason[:28]) == (1, "no order_manager has started")


@pytest.mark.parametrize("old", ["other@1", "owner@0"])
def test_records_of_an_earlier_run_do_not_count(old: str) -> None:
    stack = Stack()
    stack.put(failed("strategy", 4, "old", host="old", epoch=old, started_ns=STARTED_NS - 500))
    assert stack.check(2 * EARLIER_GRACE_S) is None


def test_a_new_life_of_the_owner_during_the_run_counts() -> None:
    stack = Stack()
    stack.put(failed("strategy", 4, "missed", epoch="owner@2", started_ns=STARTED_NS + 900))
    assert stack.check() == End(4, "missed", True)


def test_an_earlier_failure_counts_unless_the_container_is_replaced() -> None:
    """Compose starts a new gateway for other settings; its record comes a moment later."""
    stack = Stack()
    del stack.records["gateway-1"]
    stack.put(failed("gateway", 2, "old", host="old", started_ns=STARTED_NS - 500))
    assert stack.check() is None
    stack.put(life("gateway"), alive=True)
    assert stack.check(EARLIER_GRACE_S) is None

    stays = Stack()
    stays.put(failed("gateway", 1, "no file", started_ns=STARTED_NS - 500))
    assert stays.check() is None
    assert stays.check(EARLIER_GRACE_S) == End(1, "gateway: no file")


def test_every_strategy_ends_its_run() -> None:
    stack = Stack(strategies=2)
    stack.put(life("strategy", ended=True, final=True))
    assert stack.check() is None
    stack.put(life("strategy", "strategy-2", ended=True, final=True))
    assert stack.check() == End(0, "", True)


def test_one_strategy_misses_an_expectation() -> None:
    stack = Stack(strategies=2)
    stack.put(failed("strategy", 4, "missed"))
    assert stack.check() is None, "the other one trades"
    stack.put(life("strategy", "strategy-2", ended=True, final=True))
    assert stack.check() == End(4, "missed", True)


def test_the_worse_end_of_two_counts() -> None:
    stack = Stack(strategies=2)
    stack.put(failed("strategy", 4, "missed"))
    stack.put(failed("strategy", 3, "incomplete", host="strategy-2"))
    assert stack.check() == End(3, "incomplete", True)


def test_a_strategy_is_missing() -> None:
    stack = Stack(strategies=2)
    del stack.records["strategy-2"]
    stack.check()
    end = stack.check(PATIENCE_S)
    assert end is not None
    assert end.reason == "1 of STRATEGIES=2 have started within 30 s (STALL_TIMEOUT_S)"
