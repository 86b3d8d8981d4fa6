"""What every process does, on one screen: ``python -m app.runtime.metrics.stat``.

Needs nothing but read access to the segment; ``rich`` only for the full-screen view, without it (or
without a terminal) the same tables come as plain text.
"""

import argparse
import json
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from app.config import Settings, settings_or_exit
from app.runtime.metrics.histogram import HistogramSnapshot
from app.runtime.metrics.layout import MetricsError
from app.runtime.metrics.process_metrics import ProcessSnapshot, read_metrics, unique_labels
from app.runtime.metrics.tables import EMPTY, micros, number, text_table
from app.segment import SegmentError

PERCENTILES = (50.0, 90.0, 99.0, 99.9)
LATENCY_WINDOW_S = 10.0
PROCESS_HEADER = ("process", "state", "beat s", "restarts", "events", "events/s", "queue", "lost")
LATENCY_HEADER = ("latency µs", "count", "p50", "p90", "p99", "p99.9", "max")


class Sample(NamedTuple):
    """Every block, read at one moment (seconds of CLOCK_MONOTONIC)."""

    taken_s: float
    processes: list[ProcessSnapshot]

    def find(self, wanted: ProcessSnapshot) -> ProcessSnapshot | None:
        """The same run of the same process in this sample."""
        for process in self.processes:
            if (process.label, process.pid, process.started) == (
                wanted.label,
                wanted.pid,
                wanted.started,
            ):
                return process
        return None


def take_sample(segment: str) -> Sample:
    """Read the segment now."""
    return Sample(time.monotonic(), read_metrics(segment))


def state_of(process: ProcessSnapshot, stale_after_s: float) -> str:
    """The state in one word, with what liveness makes of it."""
    if process.state in ("done", "failed"):
        return process.state
    if not process.alive:
        return f"dead ({process.state})"
    return f"stale ({process.state})" if process.heartbeat_age_s > stale_after_s else process.state


def rate_of(
    process: ProcessSnapshot, counter: str, now: Sample, earlier: Sample | None
) -> float | None:
    """Growth per second since ``earlier``; without it, the mean while events came."""
    before = earlier.find(process) if earlier else None
    if earlier and before:
        grown = process.counters[counter] - before.counters[counter]
        return max(grown, 0) / max(now.taken_s - earlier.taken_s, 1e-9)
    return process.counters[counter] / process.active_s if process.active_s > 0 else None


def process_rows(now: Sample, earlier: Sample | None, stale_after_s: float) -> list[list[str]]:
    """Rows under :data:`PROCESS_HEADER`."""
    rows = []
    for label, process in zip(unique_labels(now.processes), now.processes, strict=True):
        counters = process.counters
        rows.append(
            [
                label,
                state_of(process, stale_after_s),
                number(process.heartbeat_age_s, 1),
                number(process.restarts),
                number(process.events),
                number(rate_of(process, process.stage_counter, now, earlier)),
                number(counters.get("queue_depth")),
                number(counters.get("ticks_lost")),
            ]
        )
    return rows


def latency_rows(now: Sample, earlier: Sample | None) -> list[list[str]]:
    """Rows under :data:`LATENCY_HEADER`: what was recorded since ``earlier``, or ever."""
    rows = []
    for label, process in zip(unique_labels(now.processes), now.processes, strict=True):
        before = earlier.find(process) if earlier else None
        for name, histogram in process.histograms.items():
            recent = histogram - before.histograms[name] if before else histogram
            row = [f"{label} {name.removesuffix('_ns')}", number(recent.total)]
            if recent.total:
                row += [micros(recent.percentile(p)) for p in PERCENTILES] + [micros(recent.max)]
            else:
                row += [EMPTY] * (len(PERCENTILES) + 1)
            rows.append(row)
    return rows


def counter_lines(now: Sample, earlier: Sample | None) -> list[str]:
    """One line per process: every other counter that is not zero, with its rate where it grows."""
    lines = []
    for label, process in zip(unique_labels(now.processes), now.processes, strict=True):
        shown = []
        for name, value in process.counters.items():
            if not value or name in (process.stage_counter, "queue_depth", "ticks_lost"):
                continue
            if name.endswith("_event_ns"):
                continue
            rate = rate_of(process, name, now, earlier) if earlier else None
            shown.append(f"{name} {value:,}" + (f" (+{rate:,.0f}/s)" if rate else ""))
        lines.append(f"{label}: " + (", ".join(shown) or "nothing counted yet"))
    return lines


def plain_view(now: Sample, earlier: Sample | None, window: Sample | None, stale_s: float) -> str:
    """The whole view as text."""
    return "\n\n".join(
        [
            text_table(PROCESS_HEADER, process_rows(now, earlier, stale_s)),
            text_table(LATENCY_HEADER, latency_rows(now, window)),
            "\n".join(counter_lines(now, earlier)),
        ]
    )


def json_view(now: Sample, earlier: Sample | None, stale_s: float) -> str:
    """The whole view as one JSON object on one line; latencies in ns, since the start."""
    processes = []
    for label, process in zip(unique_labels(now.processes), now.processes, strict=True):
        processes.append(
            {
                "label": label,
                "service": process.service,
                "instance": process.instance,
                "pid": process.pid,
                "state": process.state,
                "alive": process.alive and process.heartbeat_age_s <= stale_s,
                "heartbeat_age_s": round(process.heartbeat_age_s, 3),
                "started": process.started.isoformat(),
                "restarts": process.restarts,
                "events_per_s": rate_of(process, process.stage_counter, now, earlier),
                "counters": process.counters,
                "histograms": {n: summary_ns(h) for n, h in process.histograms.items()},
            }
        )
    return json.dumps({"processes": processes})


def summary_ns(histogram: HistogramSnapshot) -> dict[str, int]:
    """Count, percentiles and extreme of a histogram, in its own unit."""
    values = {f"p{p:g}": histogram.percentile(p) for p in PERCENTILES}
    return {"count": histogram.total, **values, "max": histogram.max}


def export_hgrm(sample: Sample, directory: Path) -> list[Path]:
    """Write each histogram that holds a value as ``<process>.<name>_us.hgrm``, in microseconds."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for label, process in zip(unique_labels(sample.processes), sample.processes, strict=True):
        for name, histogram in process.histograms.items():
            if histogram.total:
                stem = f"{label}.{name.removesuffix('_ns')}_us".replace("/", "-")
                path = directory / f"{stem}.hgrm"
                path.write_text(histogram.to_hgrm(unit_ns=1000))
                written.append(path)
    return written


def samples(segment: str, interval_s: float) -> Iterator[tuple[Sample, Sample | None, Sample]]:
    """For ever: a sample, the one before it, and the oldest of the last ten seconds.

    Ends when the segment goes away.
    """
    history: deque[Sample] = deque()
    while True:
        try:
            now = take_sample(segment)
        except MetricsError:
            if history:
                return
            raise
        earlier = history[-1] if history else None
        history.append(now)
        while now.taken_s - history[0].taken_s > LATENCY_WINDOW_S + interval_s:
            history.popleft()
        yield now, earlier, history[0]
        time.sleep(interval_s)


def _watch_plain(arguments: argparse.Namespace, stale_s: float) -> None:
    for now, earlier, oldest in samples(arguments.segment, arguments.interval):
        if arguments.json:
            print(json_view(now, earlier, stale_s), flush=True)
        else:
            window = oldest if earlier else None
            print(plain_view(now, earlier, window, stale_s), end="\n\n\n", flush=True)


def _watch_full_screen(arguments: argparse.Namespace, stale_s: float) -> None:
    from app.runtime.metrics.stat_screen import screen

    with screen() as show:
        for now, earlier, oldest in samples(arguments.segment, arguments.interval):
            show(
                process_rows(now, earlier, stale_s),
                latency_rows(now, oldest if earlier else None),
                counter_lines(now, earlier),
                f"{arguments.segment}, every {arguments.interval:g} s; latency of the last "
                f"{now.taken_s - oldest.taken_s:.0f} s; Ctrl-C ends",
            )


def _can_draw() -> bool:
    try:
        import rich  # noqa: F401
    except ImportError:
        return False
    return sys.stdout.isatty()


def _parser(settings: Settings) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m app.runtime.metrics.stat", description=__doc__)
    parser.add_argument("--once", action="store_true", help="print once as text and exit")
    parser.add_argument("--plain", action="store_true", help="text, never the full-screen view")
    parser.add_argument("--json", action="store_true", help="one JSON object per refresh")
    parser.add_argument("--hgrm", metavar="DIR", type=Path, help="write .hgrm files there and exit")
    parser.add_argument("--interval", type=float, default=1.0, metavar="S", help="default: 1")
    parser.add_argument("--segment", default=settings.shm_metrics, help="default: SHM_METRICS")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, also after Ctrl-C; 1 if there is nothing to read; 2 for wrong settings."""
    settings = settings_or_exit("metrics")
    arguments = _parser(settings).parse_args(argv)
    stale_s = settings.heartbeat_timeout_s
    try:
        if arguments.hgrm:
            for path in export_hgrm(take_sample(arguments.segment), arguments.hgrm):
                print(path)
        elif arguments.once:
            now = take_sample(arguments.segment)
            view = json_view if arguments.json else None
            print(view(now, None, stale_s) if view else plain_view(now, None, None, stale_s))
        elif arguments.plain or arguments.json or not _can_draw():
            _watch_plain(arguments, stale_s)
        else:
            _watch_full_screen(arguments, stale_s)
    except (MetricsError, SegmentError) as error:
        print(f"metrics: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, BrokenPipeError):
        return 0
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
