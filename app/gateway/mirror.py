"""The market's state in the gateway's counters: for readers, and for the gateway's next life."""

from app.gateway.pacing import pace_numbers, pace_text
from app.gateway.transport import Transport
from app.runtime.metrics.process_metrics import ProcessMetrics


def publish(
    metrics: ProcessMetrics, transport: Transport, seq: int, due_ns: int, unpaced_until: int
) -> None:
    """Write the state, and that tick ``seq`` is due at ``due_ns`` (0: no tick is due at a time).

    ``unpaced_until``: ticks before that one were sent without a pace, so they may still be waiting
    for a slow reader.  ``market_changes`` is odd meanwhile, so that no reader takes half of it.
    """
    changes = metrics.get("market_changes") | 1
    metrics.set("market_changes", changes)
    kind, millionths = pace_numbers(transport.pace)
    # A process that is killed in between leaves a pace of before, or none at all.
    metrics.set("pace_kind", 0)
    metrics.set("pace_millionths", millionths)
    metrics.set("pace_kind", kind)
    metrics.set("paused", int(transport.paused))
    metrics.set("hurries_to", transport.until or 0)
    metrics.set("schedule_seq", seq)
    metrics.set("schedule_ns", due_ns)
    metrics.set("unpaced_until", unpaced_until)
    metrics.set("market_changes", changes + 1)


def restored(metrics: ProcessMetrics, default: Transport) -> Transport:
    """The state that the previous process left; the pace of ``default`` if it left none."""
    kind = metrics.get("pace_kind")
    pace = pace_text(kind, metrics.get("pace_millionths")) if kind else default.pace
    if not metrics.get("market_changes"):
        return default
    return Transport(pace, bool(metrics.get("paused")), metrics.get("hurries_to") or None)
