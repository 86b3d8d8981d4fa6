"""The market's state in the gateway's counters: for readers, and for the gateway's next life."""

import zlib

from app.gateway.transport import Transport
from app.runtime.control.pace import pace_numbers, pace_text
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
    """The state that the previous process left; ``default``, that of the settings, if it left none.

    A setting that has changed since then holds: the pace that was told was told for the other one.
    """
    setting = zlib.crc32(default.pace.encode())
    kind, is_known = metrics.get("pace_kind"), metrics.get("pace_setting") == setting
    pace = pace_text(kind, metrics.get("pace_millionths")) if kind and is_known else default.pace
    metrics.set("pace_setting", setting)
    if not metrics.get("market_changes"):
        return default
    return Transport(pace, bool(metrics.get("paused")), metrics.get("hurries_to") or None)
