"""What every process does, on one screen: ``python -m app.runtime.metrics.stat``.

Needs nothing but read access to the segment; ``rich`` only for the full-screen view, without it (or
without a terminal) the same tables come as plain text.
"""

import argparse
import json
import sys
from pathlib import Path

from app.config import Settings, settings_or_exit
from app.runtime.metrics.figures import (
    LATENCY_HEADER,
    PROCESS_HEADER,
    Sample,
    counter_lines,
    latency_rows,
    process_rows,
    rate_of,
    samples,
    summary_ns,
    take_sample,
)
from app.runtime.metrics.layout import MetricsError
from app.runtime.metrics.snapshot import unique_labels
from app.runtime.metrics.tables import text_table
from app.shared_memory_utils.segment import SegmentError


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
