"""The trace segment: created, attached, removed, refused."""

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.config.settings import Settings
from app.runtime.metrics.process_metrics import ProcessMetrics
from app.runtime.trace import layout as layouts
from app.runtime.trace.layout import HEADER_BYTES, SENT, TraceError, layout_for
from app.runtime.trace.reader import read_orders, trace_of
from app.runtime.trace.writer import TraceSegment
from app.shared_memory_utils.segment import SegmentError

SHM = Path("/dev/shm")
STAGES = tuple(range(1, 11))


@pytest.fixture
def settings(name: str) -> Iterator[Settings]:
    made = Settings(shm_metrics=name, trace_orders=100, ring_capacity_ticks=1024)
    yield made
    (SHM / made.shm_trace).unlink(missing_ok=True)


@pytest.fixture
def metrics(settings: Settings) -> Iterator[ProcessMetrics]:
    made = ProcessMetrics.open(settings.shm_metrics, "strategy")
    yield made
    made.close()


def opened(settings: Settings, metrics: ProcessMetrics) -> TraceSegment:
    made = TraceSegment.open(settings, metrics)
    assert made is not None
    return made


def test_a_restarted_process_continues_in_the_same_segment(
    settings: Settings, metrics: ProcessMetrics
) -> None:
    first = opened(settings, metrics)
    first.orders.append(SENT, 0, 1, b"me", STAGES)
    first.close()
    second = opened(settings, metrics)
    second.orders.append(SENT, 0, 2, b"me", STAGES)
    assert [order.id for order in read_orders(settings.shm_trace)] == [1, 2]
    second.close()


def test_another_size_in_the_settings_keeps_the_segment(
    settings: Settings, metrics: ProcessMetrics
) -> None:
    opened(settings, metrics).orders.append(SENT, 0, 1, b"me", STAGES)
    other = Settings(shm_metrics=settings.shm_metrics, trace_orders=7)
    opened(other, metrics).orders.append(SENT, 0, 2, b"me", STAGES)
    assert [order.id for order in read_orders(settings.shm_trace)] == [1, 2]
    assert (SHM / settings.shm_trace).stat().st_size == layout_for(100, 1024).nbytes


def test_switched_off_there_is_no_segment(settings: Settings, metrics: ProcessMetrics) -> None:
    assert (
        TraceSegment.open(Settings(shm_metrics=settings.shm_metrics, trace_orders=0), metrics)
        is None
    )
    assert not (SHM / settings.shm_trace).exists()
    with pytest.raises(TraceError, match="TRACE_ORDERS=0"):
        trace_of(settings.shm_trace, 1)


def test_a_removed_segment_is_made_again(settings: Settings, metrics: ProcessMetrics) -> None:
    made = opened(settings, metrics)
    made.orders.append(SENT, 0, 1, b"me", STAGES)
    (SHM / settings.shm_trace).unlink()
    made.check()
    made.check()
    made.orders.append(SENT, 0, 2, b"me", STAGES)
    assert [order.id for order in read_orders(settings.shm_trace)] == [2]


def test_the_heartbeat_checks_it(
    settings: Settings, metrics: ProcessMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(settings, metrics)
    metrics.heartbeat()
    (SHM / settings.shm_trace).unlink()
    monkeypatch.setattr(metrics, "_next_check_ns", 0)
    metrics.heartbeat()
    assert (SHM / settings.shm_trace).exists()


@pytest.mark.parametrize(
    ("offset", "words", "refusal"),
    [
        (8, struct.pack("=I", 99), "layout 99/.*, this build has 1/"),
        (12, struct.pack("=I", 1), "layout 1/00000001/"),
        (24, struct.pack("=Q", 1 << 40), "do not hold 1099511627776 orders"),
        (24, struct.pack("=Q", 0), "do not hold 0 orders"),
        (32, struct.pack("=Q", 1), "do not hold 100 orders and 1 batches"),
    ],
)
def test_a_segment_of_another_build_is_refused(
    settings: Settings,
    metrics: ProcessMetrics,
    offset: int,
    words: bytes,
    refusal: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    opened(settings, metrics).close()
    path = SHM / settings.shm_trace
    image = bytearray(path.read_bytes())
    image[offset : offset + len(words)] = words
    path.write_bytes(image)
    with pytest.raises(TraceError, match=refusal):
        trace_of(settings.shm_trace, 1)
    # A process trades on without it.
    assert TraceSegment.open(settings, metrics) is None
    assert bytes(image) == path.read_bytes()


@pytest.mark.parametrize("content", [b"theirs" * 100, b"TRD", b"TRDTRACE" + bytes(8)])
def test_a_file_of_another_program_is_left_alone(
    settings: Settings, metrics: ProcessMetrics, content: bytes
) -> None:
    path = SHM / settings.shm_trace
    path.write_bytes(content)
    with pytest.raises(SegmentError, match=settings.shm_trace):
        trace_of(settings.shm_trace, 1)
    assert TraceSegment.open(settings, metrics) is None
    assert path.read_bytes() == content


def test_the_parts_cover_the_segment_and_share_no_cache_line() -> None:
    made = layout_for(100, 1024)
    memory = memoryview(bytearray(made.nbytes))
    parts = [made.ring(memory, repeats=again) for again in (False, True)]
    parts += [made.times(memory, of_orderbook=which) for which in (False, True)]
    assert HEADER_BYTES + sum(map(len, parts)) == made.nbytes
    for number, part in enumerate(parts):
        assert len(part) % 64 == 0
        part[:] = bytes([number + 1]) * len(part)
    assert bytes(memory[:HEADER_BYTES]) == bytes(HEADER_BYTES)
    assert all(set(part) == {number + 1} for number, part in enumerate(parts))


def test_the_fingerprint_follows_the_names(monkeypatch: pytest.MonkeyPatch) -> None:
    before = layouts.fingerprint()
    monkeypatch.setattr(layouts, "STAGE_NAMES", (*layouts.STAGE_NAMES[:-1], "other"))
    assert layouts.fingerprint() != before
