"""``python -m app stat``: the state, rates and latencies of every process.

Needs nothing but read access to the metrics segment.
"""

import json
import sys
from pathlib import Path

import click
from rich.console import RenderableType
from rich.live import Live
from rich.text import Text

from app.config.loading import settings_or_exit
from app.runtime.metrics.figures import (
    LATENCY_HEADER,
    PROCESS_HEADER,
    Sample,
    counter_lines,
    latency_rows,
    process_rows,
    rate_of,
    readable,
    samples,
    summary_ns,
    take_sample,
)
from app.runtime.metrics.layout import MetricsError
from app.runtime.metrics.snapshot import unique_labels
from app.runtime.metrics.tables import show, spaced, table
from app.shared_memory_utils.segment import SegmentError

STATE_STYLES = {"ready": "green", "done": "cyan", "starting": "yellow", "draining": "yellow"}
STATE_COLUMN = PROCESS_HEADER.index("state")


def view(
    now: Sample, earlier: Sample | None, window: Sample | None, stale_s: float
) -> list[RenderableType]:
    """The tables; latencies since ``window``, the rest since ``earlier``."""
    processes: list[list[str | Text]] = [list(row) for row in process_rows(now, earlier, stale_s)]
    for row in processes:
        state = str(row[STATE_COLUMN])
        row[STATE_COLUMN] = Text(state, STATE_STYLES.get(state, "red"))
    return [
        table(PROCESS_HEADER, processes),
        table(LATENCY_HEADER, latency_rows(now, window)),
        Text("\n".join(counter_lines(now, earlier))),
    ]


def json_view(now: Sample, earlier: Sample | None, stale_s: float) -> str:
    """The same as one JSON object on one line; latencies in ns, since the start."""
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
                "counters": {name: readable(name, n) for name, n in process.counters.items()},
                "histograms": {n: summary_ns(h) for n, h in process.histograms.items()},
            }
        )
    return json.dumps({"processes": processes})


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


def _full_screen(segment: str, interval_s: float, stale_s: float) -> None:
    with Live(screen=True, auto_refresh=False) as live:
        for now, earlier, oldest in samples(segment, interval_s):
            caption = (
                f"{segment}, every {interval_s:g} s; latency of the last "
                f"{now.taken_s - oldest.taken_s:.0f} s; Ctrl-C ends"
            )
            blocks = view(now, earlier, oldest if earlier else None, stale_s)
            live.update(spaced(*blocks, Text(caption, "dim")), refresh=True)


@click.command()
@click.option("--once", is_flag=True, help="print once as text and exit")
@click.option("--plain", is_flag=True, help="text, never the full-screen view")
@click.option("--json", "as_json", is_flag=True, help="one JSON object per refresh")
@click.option("--hgrm", metavar="DIR", type=Path, help="write .hgrm files there and exit")
@click.option(
    "--interval",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    metavar="S",
    help="seconds between two refreshes; default: 1",
)
@click.option("--segment", metavar="NAME", help="default: SHM_METRICS")
def command(
    once: bool, plain: bool, as_json: bool, hgrm: Path | None, interval: float, segment: str | None
) -> int:
    """Exit code 0, also after Ctrl-C; 1 if there is nothing to read; 2 for invalid settings."""
    settings = settings_or_exit("stat")
    name, stale_s = segment or settings.shm_metrics, settings.heartbeat_timeout_s

    def refresh(now: Sample, earlier: Sample | None, window: Sample | None) -> None:
        if as_json:
            print(json_view(now, earlier, stale_s), flush=True)
        else:
            show(*view(now, earlier, window, stale_s), file=sys.stdout)

    try:
        if hgrm:
            for path in export_hgrm(take_sample(name), hgrm):
                print(path)
        elif once:
            refresh(take_sample(name), None, None)
        elif plain or as_json or not sys.stdout.isatty():
            for now, earlier, oldest in samples(name, interval):
                refresh(now, earlier, oldest if earlier else None)
                if not as_json:
                    print("\n", flush=True)
        else:
            _full_screen(name, interval, stale_s)
    except (MetricsError, SegmentError) as error:
        print(f"stat: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, BrokenPipeError):
        return 0
    return 0
