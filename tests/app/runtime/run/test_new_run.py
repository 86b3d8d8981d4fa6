"""A new run of the stack: who notices, what begins anew, and what its orders are called."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.config.settings import Settings
from app.runtime.container import ipc_owner
from app.runtime.metrics.layout import KEPT, counter_names, histogram_names
from app.runtime.metrics.process_metrics import ProcessMetrics
from app.runtime.metrics.snapshot import read_metrics
from app.runtime.run.run_id import next_run, number_of, resolve_run_id
from app.shared_memory_utils.segment import SHM_DIRECTORY


@pytest.fixture
def name() -> Iterator[str]:
    name = f"test_run_{secrets.token_hex(4)}"
    yield name
    (SHM_DIRECTORY / name).unlink(missing_ok=True)


def test_the_others_notice_once_and_have_no_proof_any_more(name: str) -> None:
    gateway, strategy = ProcessMetrics.open(name, "gateway"), ProcessMetrics.open(name, "strategy")
    told: list[str] = []
    strategy.on_new_run = lambda: told.append("a new run")
    proof = gateway.stack_proof
    assert strategy.stack_proof == proof
    strategy.heartbeat()
    assert not told
    gateway.begin_run(1 << 16 | 7)
    assert gateway.is_of_this_run
    assert gateway.stack_proof not in ("", proof)
    for _ in range(2):
        strategy.heartbeat()
    assert told == ["a new run"]
    assert not strategy.is_of_this_run
    assert strategy.stack_proof == ""
    strategy.close()
    again = ProcessMetrics.open(name, "strategy")
    assert again.is_of_this_run
    assert again.stack_proof == gateway.stack_proof
    again.close()
    gateway.close()


def test_the_figures_begin_anew_but_for_those_that_go_on(name: str) -> None:
    gateway = ProcessMetrics.open(name, "gateway")
    for service in ("gateway", "orderbook", "strategy", "order_manager"):
        metrics = gateway if service == "gateway" else ProcessMetrics.open(name, service)
        for number, counter in enumerate(counter_names(service), 1):
            metrics.set(counter, number)
        for histogram in histogram_names(service):
            metrics.histogram(histogram).record(1000)
        if metrics is not gateway:
            metrics.close()
            ProcessMetrics.open(name, service).close()  # a restart within the run
    gateway.begin_run(1 << 16)
    for service in ("orderbook", "strategy", "order_manager"):
        assert gateway.is_behind(service)
        ProcessMetrics.open(name, service).close()
        assert not gateway.is_behind(service)
    for block in read_metrics(name):
        expected = {
            counter: number if counter in KEPT.get(block.service, ()) else 0
            for number, counter in enumerate(counter_names(block.service), 1)
        }
        assert block.counters == expected
        assert block.restarts == 0
        assert all(found.total == 0 for found in block.histograms.values())
    gateway.close()


def test_a_gateway_that_dies_after_the_run_has_begun_keeps_the_state(name: str) -> None:
    """It is killed before it has done anything for the new run."""
    gateway = ProcessMetrics.open(name, "gateway")
    gateway.set("paused", 1)
    gateway.set("hurries_to", 500)
    gateway.set("ticks_sent", 9000)
    gateway._segment.buf[40:48] = (1 << 16).to_bytes(8, "little")
    gateway.close()
    again = ProcessMetrics.open(name, "gateway")
    assert (again.get("paused"), again.get("hurries_to"), again.get("ticks_sent")) == (1, 500, 0)
    assert again.restarts == 0
    again.close()


def test_nobody_is_behind_before_it_was_there(name: str) -> None:
    metrics = ProcessMetrics.open(name, "strategy")
    assert not metrics.is_behind("order_manager")
    metrics.close()


# ---- Names


def test_each_run_has_its_own_name() -> None:
    settings = Settings(run_id="lesson")
    run, names = 0, ["lesson"]
    for number in (2, 3, 4):
        run = next_run(settings, run)
        assert number_of(run) == number
        names.append(resolve_run_id(settings, run))
        assert names[-1].startswith(f"lesson.{number}-")
    assert len(set(names)) == 4
    assert resolve_run_id(settings) == "lesson", "without shared memory it is the first"


def test_in_containers_the_name_outlives_the_shared_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "ipc_owner"
    monkeypatch.setattr(ipc_owner, "LOCK_FILE", str(lock))
    lock.write_text("0123456789ab")
    settings = Settings(run_dir=str(tmp_path))
    first = resolve_run_id(settings)
    second = next_run(settings, 0)
    name = resolve_run_id(settings, second)
    # The shared memory is another one, which knows of no run; its stack is in the second.
    assert resolve_run_id(settings, 0) == name != first
    third = next_run(settings, 0)
    assert number_of(third) == 3
    # After docker compose down, everything is new.
    lock.write_text("ba9876543210")
    assert resolve_run_id(settings, 0) not in (first, name, resolve_run_id(settings, third))
    assert number_of(next_run(settings, 0)) == 2


@pytest.mark.parametrize("text", ["", "x 0123456789ab", "7", "-1 0123456789ab", "\0"])
def test_a_file_that_is_no_run_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    lock = tmp_path / "ipc_owner"
    monkeypatch.setattr(ipc_owner, "LOCK_FILE", str(lock))
    lock.write_text("0123456789ab")
    (tmp_path / "run_number").write_text(text)
    settings = Settings(run_dir=str(tmp_path), run_id="mine")
    assert resolve_run_id(settings, 0) == "mine"


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 1 << 40))
def test_a_run_is_followed_by_the_next_number(run: int) -> None:
    assert number_of(next_run(Settings(), run)) == number_of(run) + 1
