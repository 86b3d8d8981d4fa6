"""Was the run complete?  Compares the stages' counters; no I/O."""

from app.runtime.metrics.snapshot import STAGE_COUNTER, ProcessSnapshot

Labelled = list[tuple[str, ProcessSnapshot]]

LOSS_COUNTERS = {
    "ticks_lost": "{count:,} ticks overwritten in the ring before it read them",
    "ticks_malformed": "{count:,} malformed ticks refused",
    "gaps": "{count:,} gaps in the sequence of ticks",
    "rows_skipped": "{count:,} bad rows of the data file skipped",
}
"""Counters that say that something of the input is missing.

Skipped rows stand here although a setting allowed them: a report must not call that complete.
"""


def unanswered(process: ProcessSnapshot) -> int:
    """Orders of a strategy that got neither an ACK nor a reject.

    It counts an order after its answer, so that a kill in between leaves no false alarm here; more
    answers than orders are such a kill's trace.
    """
    counters = process.counters
    answered = counters["orders_acked"] + counters["orders_rejected"]
    return max(counters["orders_sent"] - answered, 0)


def find_problems(labeled: Labelled, *, endless: bool) -> list[str]:
    """What is missing, a phrase each; empty for a complete run.

    ``endless``: the feed never ends by itself, so that what is still on its way between two stages
    when the run is stopped is no loss.
    """
    services = {process.service for _, process in labeled}
    problems = [f"no {name} has run" for name in STAGE_COUNTER if name not in services]
    problems += [f"{label} failed" for label, process in labeled if process.state == "failed"]
    for label, process in labeled:
        for name, phrase in LOSS_COUNTERS.items():
            count = process.counters.get(name, 0)
            if count:
                problems.append(f"{label}: {phrase.format(count=count)}")
    return problems if endless else problems + _shortfalls(labeled)


def _shortfalls(labeled: Labelled) -> list[str]:
    """Each stage against the one before it, and orders against answers."""
    problems = []
    sent = max((p.events for _, p in labeled if p.service == "gateway"), default=0)
    received = max((p.events for _, p in labeled if p.service == "orderbook"), default=0)
    # A gateway that was restarted with new shared memory, after the orderbook had got everything,
    # counts from 0: what counts then is that the orderbook has seen the end.
    if max(sent, received) == 0:
        problems.append("no tick was sent")
    expected = {"orderbook": sent, "strategy": received}
    for label, process in labeled:
        wanted = expected.get(process.service, 0)
        # What was overwritten in the ring has a phrase of its own.
        if process.events + process.counters.get("ticks_lost", 0) < wanted:
            verb = process.stage_counter.removeprefix("ticks_")
            problems.append(f"{label} {verb} {process.events:,} of {wanted:,} ticks")
        if process.service == "strategy" and unanswered(process):
            problems.append(
                f"{label}: {unanswered(process):,} of {process.counters['orders_sent']:,} orders "
                "unanswered"
            )
    return problems
