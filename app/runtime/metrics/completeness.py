"""Whether a run was complete, by comparing the stages' counters; no I/O."""

from app.runtime.metrics.snapshot import ONLOOKERS, STAGE_COUNTER, ProcessSnapshot

Labeled = list[tuple[str, ProcessSnapshot]]

LOSS_COUNTERS = {
    "ticks_lost": "{count:,} ticks overwritten in the ring before it read them",
    "ticks_malformed": "{count:,} malformed ticks refused",
}
"""Counters of missing input.  Skipped rows are not missing: SKIP_BAD_ROWS asked for that.  Neither
is a gap in the orderbook's feed: after it, the run starts over from tick 0.
"""


def unanswered(process: ProcessSnapshot) -> int:
    """Orders of a strategy that got neither an ACK nor a reject.

    The strategy counts an order after its answer, so a kill in between causes no false alarm: it
    leaves more answers than orders.
    """
    counters = process.counters
    answered = counters["orders_acked"] + counters["orders_rejected"]
    return max(counters["orders_sent"] - answered, 0)


def find_problems(labeled: Labeled, *, endless: bool, cut_short: str = "") -> list[str]:
    """One phrase for each thing that is missing; empty for a complete run.

    ``endless``: the feed never ends by itself, so ticks that are between two stages when the run is
    stopped are not lost.  ``cut_short``: why the run ended before its end.
    """
    services = {process.service for _, process in labeled}
    problems = [cut_short] if cut_short else []
    problems += [f"no {name} has run" for name in STAGE_COUNTER if name not in services | ONLOOKERS]
    problems += [f"{label} failed" for label, process in labeled if process.state == "failed"]
    for label, process in labeled:
        for name, phrase in LOSS_COUNTERS.items():
            count = process.counters.get(name, 0)
            if count:
                problems.append(f"{label}: {phrase.format(count=count)}")
    return problems if endless else problems + _shortfalls(labeled)


def _shortfalls(labeled: Labeled) -> list[str]:
    """Compare each stage with the one before it, and orders with answers."""
    problems = []
    sent = max((p.events for _, p in labeled if p.service == "gateway"), default=0)
    received = max((p.events for _, p in labeled if p.service == "orderbook"), default=0)
    total = max(
        (p.counters["ticks_total"] for _, p in labeled if p.service == "gateway"), default=0
    )
    malformed = max(
        (p.counters["ticks_malformed"] for _, p in labeled if p.service == "orderbook"), default=0
    )
    # A gateway that was restarted with new shared memory after the orderbook had received all ticks
    # counts from 0; the orderbook's own count is enough then.
    if max(sent, received) == 0:
        problems.append("no tick was sent")
    # The gateway knows how many there are: a run that is cut short has them not even sent.
    expected = {"orderbook": sent, "strategy": max(received, total - malformed)}
    for label, process in labeled:
        wanted = expected.get(process.service, 0)
        # Ticks overwritten in the ring are reported as ticks_lost.
        if process.events + process.counters.get("ticks_lost", 0) < wanted:
            verb = process.stage_counter.removeprefix("ticks_")
            problems.append(f"{label} {verb} {process.events:,} of {wanted:,} ticks")
        if process.service == "strategy" and unanswered(process):
            problems.append(
                f"{label}: {unanswered(process):,} of {process.counters['orders_sent']:,} orders "
                "unanswered"
            )
    return problems
