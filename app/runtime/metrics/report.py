"""The report of a run: collected from shared memory, judged, shown as text or Markdown.

``collect`` reads every process's block, living or dead, so call it before the segments are removed.
:mod:`app.runtime.metrics.report_files` writes it.
"""

import os
import platform
from datetime import UTC, datetime

import msgspec
from rich.console import Group, RenderableType
from rich.text import Text

from app.config.loading import EXIT_SETTINGS
from app.config.settings import Settings
from app.runtime.lifecycle import EXIT_EXPECTATION, EXIT_FAULT, EXIT_INCOMPLETE, EXIT_OK
from app.runtime.metrics.completeness import find_problems
from app.runtime.metrics.expectations import Expectation, check_expectations
from app.runtime.metrics.figures import PERCENTILE_NAMES, PERCENTILES
from app.runtime.metrics.histogram import HistogramSnapshot
from app.runtime.metrics.snapshot import (
    ONLOOKERS,
    ProcessSnapshot,
    read_metrics,
    unique_labels,
)
from app.runtime.metrics.strategy_orders import StrategyOrders, Table, order_tables, orders_of
from app.runtime.metrics.tables import (
    cost_tables,
    markdown_table,
    micros,
    number,
    plain_text,
    table,
)
from app.runtime.net.position_queries import Profit
from app.runtime.run.strategy_params import given_text
from app.shared_memory_utils.segment import SHM_DIRECTORY

PATHS = (
    ("orderbook", "book_update_ns", "tick received → shared memory"),
    ("strategy", "tick_to_decision_ns", "tick received → decision"),
    ("strategy", "tick_to_ack_ns", "tick received → ACK"),
    ("strategy", "scheduled_to_ack_ns", "tick due → ACK"),
    ("strategy", "order_ack_ns", "order sent → ACK"),
    ("order_manager", "order_ack_ns", "order received → ACK sent"),
)
"""Service, histogram, and what it measures, in the order in which a tick passes."""


class Stage(msgspec.Struct, frozen=True):
    """One process: events handled and lost, and the rate between its first and last event."""

    label: str
    what: str
    count: int
    lost: int
    restarts: int
    active_s: float
    per_s: float | None


class Latency(msgspec.Struct, frozen=True):
    """Percentiles of one path, in ns; None where nothing was recorded."""

    path: str
    label: str
    count: int
    percentiles_ns: tuple[int | None, ...]
    max_ns: int | None


class SegmentSize(msgspec.Struct, frozen=True):
    """A shared memory segment; ``size_bytes`` is None if it does not exist."""

    name: str
    what: str
    size_bytes: int | None


class Report(msgspec.Struct, frozen=True):
    """A whole run.  ``problems`` is empty when nothing is missing.

    ``endless``: the feed does not end by itself, so the run cannot be complete, and no expectation
    is checked.  ``fault``: a fault ended the run.  ``profit`` is that of the strategy that made the
    report, at the last tick's prices.  ``refused``: the settings were invalid, so nothing has run.
    """

    created: datetime
    endless: bool
    fault: bool
    stages: list[Stage]
    orders: list[StrategyOrders]
    latencies: list[Latency]
    segments: list[SegmentSize]
    bytes_per_symbol: float | None
    facts: list[tuple[str, str]]
    rows_skipped: int
    problems: list[str]
    expectations: list[Expectation]
    profit: Profit | None = None
    refused: bool = False

    @property
    def missed(self) -> list[str]:
        """The expectations that are missed, one phrase each."""
        return [f"{e.name}: {e.missed}" for e in self.expectations if e.missed]

    @property
    def verdict(self) -> str:
        """One line: complete, what is missing, or which expectation is missed."""
        if self.refused:
            return "; ".join(self.problems) + "."
        if self.problems:
            return "Incomplete: " + "; ".join(self.problems) + "."
        if self.missed:
            return "Expectation missed: " + "; ".join(self.missed) + "."
        if not self.endless:
            return COMPLETE
        return UNDER_WAY if any(stage.count for stage in self.stages) else NO_TICK

    @property
    def exit_code(self) -> int:
        """The exit code of a run that ends with this report."""
        if self.refused:
            return EXIT_SETTINGS
        if self.fault:
            return EXIT_FAULT
        if self.endless:
            return EXIT_OK
        if self.problems:
            return EXIT_INCOMPLETE
        return EXIT_EXPECTATION if self.missed else EXIT_OK


COMPLETE = "Complete: every tick was consumed, every order was answered."
UNDER_WAY = "The feed is endless; nothing was lost up to this moment."
NO_TICK = "No tick has arrived."
LIVE = "live"
"""Pace and replay of an exchange's prices, which no setting decides."""


def collect(settings: Settings, cut_short: str = "", *, fault: bool = False) -> Report:
    """Read the segments named in ``settings``.

    ``cut_short``: why the run ended before its end; ``fault``: because of a fault.

    Raises:
        MetricsError: there is no metrics segment, or it is another build's.
        SegmentError: it cannot be attached.
    """
    processes = [p for p in read_metrics(settings.shm_metrics) if p.service not in ONLOOKERS]
    labeled = list(zip(unique_labels(processes), processes, strict=True))
    segments = _segments(settings)
    endless = settings.replay != "once"
    return Report(
        created=datetime.now(UTC),
        endless=endless,
        fault=fault,
        stages=[_stage(label, process) for label, process in labeled],
        orders=[orders_of(label, p) for label, p in labeled if p.service == "strategy"],
        latencies=_latencies(labeled),
        segments=segments,
        bytes_per_symbol=_bytes_per_symbol(segments[0], processes),
        facts=_facts(settings),
        rows_skipped=max((p.counters.get("rows_skipped", 0) for p in processes), default=0),
        problems=find_problems(labeled, endless=endless, cut_short=_printable(cut_short)),
        expectations=[] if endless else check_expectations(settings, labeled),
    )


def of_failure(reason: str, *, fault: bool = False, refused: bool = False) -> Report:
    """The report of a run that left no figures: its processes did not start, or are gone."""
    return Report(
        created=datetime.now(UTC),
        endless=False,
        fault=fault,
        stages=[],
        orders=[],
        latencies=[],
        segments=[],
        bytes_per_symbol=None,
        facts=[],
        rows_skipped=0,
        problems=[_printable(reason).rstrip(".")],
        expectations=[],
        refused=refused,
    )


def _printable(text: str) -> str:
    """One line of printable text, whatever an exception says: the verdict goes to logs and XML."""
    return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))


def _stage(label: str, process: ProcessSnapshot) -> Stage:
    return Stage(
        label=label,
        what=process.stage_counter.replace("_", " "),
        count=process.events,
        lost=process.counters.get("ticks_lost", 0) + process.counters.get("ticks_malformed", 0),
        restarts=process.restarts,
        active_s=process.active_s,
        per_s=process.events_per_s,
    )


def _latencies(labeled: list[tuple[str, ProcessSnapshot]]) -> list[Latency]:
    """Every path of every process, and all strategies together where there are several."""
    rows = []
    for service, name, path in PATHS:
        found = [(label, p.histograms[name]) for label, p in labeled if p.service == service]
        rows += [_latency(path, label, histogram) for label, histogram in found]
        if len(found) > 1:
            together = sum((h for _, h in found[1:]), start=found[0][1])
            rows.append(_latency(path, "all", together))
    return rows


def _latency(path: str, label: str, histogram: HistogramSnapshot) -> Latency:
    if not histogram.total:
        return Latency(path, label, 0, (None,) * len(PERCENTILES), None)
    values = tuple(histogram.percentile(percent) for percent in PERCENTILES)
    return Latency(path, label, histogram.total, values, histogram.max)


def _segments(settings: Settings) -> list[SegmentSize]:
    named = (
        (settings.shm_price_book, "price book"),
        (settings.shm_metadata, "metadata"),
        (settings.shm_tick_ring, f"tick ring of {settings.ring_capacity_ticks:,} ticks"),
        (settings.shm_metrics, "counters and histograms"),
        (settings.shm_trace, f"times of {settings.trace_orders:,} orders"),
    )
    return [SegmentSize(name, what, _size_of(name)) for name, what in named]


def _size_of(segment: str) -> int | None:
    try:
        return os.stat(SHM_DIRECTORY / segment).st_size
    except FileNotFoundError:
        return None


def _bytes_per_symbol(book: SegmentSize, processes: list[ProcessSnapshot]) -> float | None:
    """Size of the whole book segment, header included, divided by its number of symbols."""
    symbols = max((p.counters.get("symbols", 0) for p in processes), default=0)
    return book.size_bytes / symbols if book.size_bytes and symbols else None


def _facts(settings: Settings) -> list[tuple[str, str]]:
    return [
        ("data file", settings.shown_data_path),
        ("seed", str(settings.seed)),
        ("pace", LIVE if settings.is_live else settings.pace),
        ("replay", LIVE if settings.is_live else settings.replay),
        ("strategy", settings.strategy),
        ("parameters", given_text(settings)),
        ("order mode", settings.order_mode),
        ("ring policy", settings.ring_policy),
        ("python", platform.python_version()),
        ("machine", f"{platform.machine()}, {os.cpu_count()} CPUs, Linux {platform.release()}"),
    ]


def _tables(report: Report) -> list[Table]:
    """Title, header and rows of every table, in reading order."""
    stages = [
        [
            stage.label,
            stage.what,
            number(stage.count),
            number(stage.lost),
            number(stage.restarts),
            number(stage.active_s, 2),
            number(stage.per_s),
        ]
        for stage in report.stages
    ]
    latencies = [
        [row.path, row.label, number(row.count), *map(micros, (*row.percentiles_ns, row.max_ns))]
        for row in report.latencies
    ]
    segments = [[s.name, s.what, number(s.size_bytes)] for s in report.segments]
    existing = [s.size_bytes for s in report.segments if s.size_bytes is not None]
    segments.append(["total", "", number(sum(existing))])
    segments.append(["price book", "per symbol", number(report.bytes_per_symbol, 1)])
    return [
        (
            "Stages",
            ("process", "what", "count", "lost", "restarts", "active s", "per s"),
            stages,
        ),
        *order_tables(report.orders),
        *_profit(report.profit),
        ("Latency, µs", ("path", "process", "count", *PERCENTILE_NAMES, "max"), latencies),
        ("Shared memory", ("segment", "what", "bytes"), segments),
        (
            "Run",
            ("fact", "value"),
            [
                *(list(fact) for fact in report.facts),
                ["bad rows skipped", number(report.rows_skipped)],
            ],
        ),
    ]


def _profit(profit: Profit | None) -> list[Table]:
    """The profit's table, where it was asked for."""
    if profit is None:
        return []
    header = ("client", "realised", "open", "PnL")
    values = [profit.realized, profit.unrealized, profit.realized + profit.unrealized]
    money = [profit.problem, "", ""] if profit.problem else [number(value, 2) for value in values]
    rows = [[profit.client, *money]]
    return [("Profit at the last prices", header, rows), *cost_tables(profit.costs)]


def blocks(report: Report) -> list[RenderableType]:
    """The titled tables and the verdict, which is last."""
    tables = [
        Group(Text(title, "bold"), table(header, rows)) for title, header, rows in _tables(report)
    ]
    return [*tables, Text(report.verdict)]


def to_text(report: Report) -> str:
    """The report as plain text, the verdict last."""
    return plain_text(*blocks(report)) + "\n"


def to_markdown(report: Report) -> str:
    """The report as a Markdown document that begins with the verdict."""
    hashes = ", ".join(sorted({f"`{o.trades_hash}`" for o in report.orders})) or "`-`"
    parts = [
        f"**{report.verdict}**",
        f"{report.created:%Y-%m-%d %H:%M:%S} UTC. Exit code {report.exit_code}. "
        f"Trades hash {hashes}.",
    ]
    if report.expectations:
        checks = [[e.name, e.missed or "met"] for e in report.expectations]
        parts.append(markdown_table(("expectation", "result"), checks))
    parts.append("# Performance report")
    for title, header, rows in _tables(report):
        parts += [f"## {title}", markdown_table(header, rows)]
    parts.append(
        "Rates are means between a process's first and last event. Latencies come from histograms "
        "whose buckets are at most 0.8 % wide; a tick counts as received when the orderbook's "
        "receive call returned."
    )
    return "\n\n".join(parts) + "\n"
