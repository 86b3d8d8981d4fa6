"""The report: collected from a segment, judged, rendered, written."""

import io
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from app.config.settings import Settings
from app.runtime.metrics import report, report_files
from app.runtime.metrics.layout import MetricsError
from app.runtime.metrics.process_metrics import ProcessMetrics
from app.runtime.metrics.tables import (
    markdown_table,
    micros,
    number,
    plain_text,
    show,
    table,
)
from app.runtime.net.position_queries import Profit
from app.shared_memory_utils.segment import SHM_DIRECTORY, Segment
from tests.support.paths import ROOT

Change = Callable[[dict[str, ProcessMetrics]], None]


@pytest.fixture
def settings() -> Iterator[Settings]:
    """Settings whose segments are this test's own; they are removed afterwards."""
    prefix = f"test_report_{os.getpid()}_{secrets.token_hex(4)}"
    settings = Settings(
        shm_price_book=f"{prefix}_book",
        shm_metadata=f"{prefix}_metadata",
        shm_tick_ring=f"{prefix}_ring",
        shm_metrics=f"{prefix}_metrics",
        replay="once",
        seed=7,
        pace="max",
        data_path="data/some.csv",
    )
    yield settings
    for path in SHM_DIRECTORY.glob(f"{prefix}*"):
        path.unlink()


@pytest.fixture
def run(settings: Settings) -> Iterator[dict[str, ProcessMetrics]]:
    """A complete run of 1,000 ticks and 40 orders, two of them rejected."""
    names = ("gateway", "orderbook", "strategy", "order_manager")
    stack = {name: ProcessMetrics.open(settings.shm_metrics, name) for name in names}
    for name in names:
        stack[name].mark_event(1_000_000_000)
        stack[name].mark_event(3_000_000_000)
        stack[name].set_state("done")
    stack["gateway"].set("ticks_sent", 1000)
    stack["orderbook"].set("ticks_received", 1000)
    stack["orderbook"].set("symbols", 10)
    fill_strategy(stack["strategy"], latency_ns=50_000)
    stack["order_manager"].set("orders_received", 40)
    stack["orderbook"].histogram("book_update_ns").record(2_000)
    yield stack
    for metrics in stack.values():
        metrics.close()


def fill_strategy(metrics: ProcessMetrics, latency_ns: int) -> None:
    metrics.set("ticks_consumed", 1000)
    for signal, count in (("buy", 20), ("sell", 25), ("flat", 5), ("hold", 950)):
        metrics.set(f"signals_{signal}", count)
    for fate, count in (("sent", 40), ("acked", 38), ("rejected", 2)):
        metrics.set(f"orders_{fate}", count)
    for _ in range(38):
        metrics.histogram("tick_to_ack_ns").record(latency_ns)


def test_the_profit_is_shown_or_why_it_is_unknown(
    settings: Settings, run: dict[str, ProcessMetrics]
):
    found = report.collect(settings)
    assert "Profit" not in report.to_markdown(found)
    for profit, row in (
        (Profit("s@1", -3.5, 1776.25), "| s@1 | -3.50 | 1,776.25 | 1,772.75 |"),
        (Profit("s@1", problem="no answer"), "| s@1 | no answer |  |  |"),
    ):
        shown = report.to_markdown(msgspec.structs.replace(found, profit=profit))
        assert row in shown


def test_a_complete_run(settings: Settings, run: dict[str, ProcessMetrics]):
    found = report.collect(settings)
    assert found.problems == []
    assert found.verdict == report.COMPLETE
    assert [(s.label, s.count, s.lost, s.per_s) for s in found.stages] == [
        ("gateway", 1000, 0, 500.0),
        ("orderbook", 1000, 0, 500.0),
        ("strategy", 1000, 0, 500.0),
        ("order_manager", 40, 0, 20.0),
    ]
    (orders,) = found.orders
    assert (orders.buy, orders.sell, orders.flat, orders.hold) == (20, 25, 5, 950)
    assert (orders.sent, orders.acked, orders.rejected, orders.unanswered) == (40, 38, 2, 0)
    by_path = {row.path: row for row in found.latencies}
    assert by_path["tick received → ACK"].count == 38
    assert by_path["tick received → ACK"].percentiles_ns == (50_175,) * 4
    assert by_path["tick received → ACK"].max_ns == 50_175
    assert by_path["tick received → decision"].percentiles_ns == (None,) * 4
    assert by_path["tick received → shared memory"].max_ns == 2_007


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            lambda run: run["orderbook"].set("ticks_received", 990),
            "orderbook received 990 of 1,000",
        ),
        (lambda run: run["strategy"].set("ticks_consumed", 999), "strategy consumed 999 of 1,000"),
        (
            lambda run: run["strategy"].set("orders_acked", 35),
            "strategy: 3 of 40 orders unanswered",
        ),
        (lambda run: run["strategy"].set("ticks_lost", 5), "strategy: 5 ticks overwritten"),
        (lambda run: run["orderbook"].set("ticks_malformed", 1), "orderbook: 1 malformed ticks"),
        (
            lambda run: run["gateway"].set("ticks_total", 1500),
            "strategy consumed 1,000 of 1,500 ticks",
        ),
        (lambda run: run["order_manager"].set_state("failed"), "order_manager failed"),
    ],
)
def test_what_is_missing_is_named(
    settings: Settings, run: dict[str, ProcessMetrics], change: Change, problem: str
):
    change(run)
    found = report.collect(settings)
    assert len(found.problems) == 1
    assert found.problems[0].startswith(problem)
    assert found.verdict == f"Incomplete: {found.problems[0]}."


def test_a_run_that_has_started_over_after_a_gap_is_complete(
    settings: Settings, run: dict[str, ProcessMetrics]
):
    run["orderbook"].set("gaps", 2)
    assert report.collect(settings).problems == []


def test_ticks_lost_in_the_ring_are_reported_once(
    settings: Settings, run: dict[str, ProcessMetrics]
):
    run["strategy"].set("ticks_consumed", 995)
    run["strategy"].set("ticks_lost", 5)
    found = report.collect(settings)
    assert found.problems == ["strategy: 5 ticks overwritten in the ring before it read them"]


def test_a_missing_process_is_named(settings: Settings):
    metrics = ProcessMetrics.open(settings.shm_metrics, "gateway")
    found = report.collect(settings)
    for name in ("orderbook", "strategy", "order_manager"):
        assert f"no {name} has run" in found.problems
    assert "no tick was sent" in found.problems
    metrics.close()


def test_a_live_run_has_no_pace_and_says_that_no_tick_has_arrived(
    settings: Settings, run: dict[str, ProcessMetrics]
) -> None:
    live = msgspec.structs.replace(settings, replay="walk", pace="7/s", data_path="wss://host/ws")
    facts = dict(report.collect(live).facts)
    assert (facts["pace"], facts["replay"]) == ("live", "live")
    replayed = dict(report.collect(settings).facts)
    assert (replayed["pace"], replayed["replay"]) == ("max", "once")
    assert report.collect(live).verdict == report.UNDER_WAY
    run["gateway"].set("ticks_sent", 0)
    run["orderbook"].set("ticks_received", 0)
    run["strategy"].set("ticks_consumed", 0)
    run["order_manager"].set("orders_received", 0)
    assert report.collect(live).verdict == report.NO_TICK == "No tick has arrived."


def test_an_endless_feed_is_not_called_complete(settings: Settings, run: dict[str, ProcessMetrics]):
    run["strategy"].set("ticks_consumed", 990)
    run["strategy"].set("orders_acked", 30)
    endless = Settings(shm_metrics=settings.shm_metrics, replay="walk")
    assert report.collect(endless).verdict == report.UNDER_WAY
    run["strategy"].set("ticks_lost", 1)
    assert "1 ticks overwritten" in report.collect(endless).verdict


def test_several_strategies_are_listed_each_and_together(
    settings: Settings, run: dict[str, ProcessMetrics]
):
    second = ProcessMetrics.open(settings.shm_metrics, "strategy")
    third = ProcessMetrics.open(settings.shm_metrics, "strategy", "slow")
    for metrics in (second, third):
        fill_strategy(metrics, latency_ns=900_000)
    found = report.collect(settings)
    labels = ["strategy#1", "strategy#2", "strategy/slow"]
    assert [row.label for row in found.orders] == labels
    rows = [row for row in found.latencies if row.path == "tick received → ACK"]
    assert [row.label for row in rows] == [*labels, "all"]
    assert [row.count for row in rows] == [38, 38, 38, 114]
    together = rows[-1].percentiles_ns
    assert together[0] == rows[1].percentiles_ns[0]
    assert rows[-1].max_ns == rows[1].max_ns
    second.close()
    third.close()


def test_shared_memory_footprint(settings: Settings, run: dict[str, ProcessMetrics]):
    Segment.create(settings.shm_price_book, b"x", 4096 + 10 * 128).close()
    found = report.collect(settings)
    sizes = {segment.name: segment.size_bytes for segment in found.segments}
    assert sizes[settings.shm_price_book] == 5376
    assert sizes[settings.shm_metrics] == (SHM_DIRECTORY / settings.shm_metrics).stat().st_size
    assert sizes[settings.shm_tick_ring] is None
    assert found.bytes_per_symbol == 537.6
    text = report.to_text(found)
    assert "537.6" in text
    assert f"tick ring of {settings.ring_capacity_ticks:,} ticks" in text


def test_text_and_markdown_say_the_same(settings: Settings, run: dict[str, ProcessMetrics]):
    found = report.collect(settings)
    text, markdown = report.to_text(found), report.to_markdown(found)
    assert text.splitlines()[-1] == report.COMPLETE
    assert report.COMPLETE in markdown
    for word in ("strategy", "950", "1,000", "50.2", "data/some.csv", "max", "once", "CrossCheck"):
        assert word in text
        assert word in markdown
    assert "| strategy | 20 | 25 | 5 | 950 | 40 | 38 | 2 | 0 |" in markdown
    assert "| tick received → ACK | strategy | 38 | 50.2 | 50.2 | 50.2 | 50.2 | 50.2 |" in markdown
    assert "| seed | 7 |" in markdown
    assert all(line == line.rstrip() for line in text.splitlines())


def test_write_replaces_the_report_whole(
    settings: Settings, run: dict[str, ProcessMetrics], tmp_path: Path
):
    directory = tmp_path / "out" / "run"
    found = report.collect(settings)
    path = report_files.write(found, directory)
    assert path == directory / "performance_report.md"
    path.write_text("old")
    assert report_files.write(found, directory) == path
    assert path.read_text() == report.to_markdown(found)
    assert sorted(os.listdir(directory)) == ["junit.xml", "performance_report.md", "report.json"]


def test_the_report_shows_no_secret_of_an_address(
    settings: Settings, run: dict[str, ProcessMetrics]
) -> None:
    live = msgspec.structs.replace(settings, data_path="wss://me:SECRET@host/ws?token=SECRET")
    shown = report.to_markdown(report.collect(live))
    assert "wss://host/ws" in shown
    assert "SECRET" not in shown


def test_write_leaves_no_draft_behind(
    settings: Settings, run: dict[str, ProcessMetrics], tmp_path: Path
):
    (tmp_path / report_files.FILE_NAME).mkdir()
    with pytest.raises(OSError, match="directory"):
        report_files.write(report.collect(settings), tmp_path)
    assert os.listdir(tmp_path) == [report_files.FILE_NAME]


def test_no_segment_raises(settings: Settings):
    with pytest.raises(MetricsError, match="does not exist"):
        report.collect(settings)


def test_the_command_prints_the_live_report(
    settings: Settings, run: dict[str, ProcessMetrics], tmp_path: Path
):
    command = [sys.executable, "-m", "app", "report"]
    environ = {**os.environ, **settings.to_environ(), "OUTPUT_DIR": str(tmp_path)}
    result = subprocess.run(
        [*command, "--write"], cwd=ROOT, env=environ, capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert report.COMPLETE in result.stdout
    assert (tmp_path / report_files.FILE_NAME).read_text().startswith(f"**{report.COMPLETE}**")

    environ["SHM_METRICS"] = settings.shm_metrics + "_none"
    result = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    assert "does not exist" in result.stderr


def test_tables():
    rows = [["a|b", "1,000", "-"], ["cc", "2", "3.5"]]
    assert plain_text(table(("word", "n", "x"), rows)).splitlines() == [
        "word      n    x",
        "----- ------ ---",
        "a|b   1,000    -",
        "cc        2  3.5",
    ]
    assert markdown_table(("word", "n", "x"), rows).splitlines() == [
        "| word | n | x |",
        "|---|---:|---:|",
        "| a\\|b | 1,000 | - |",
        "| cc | 2 | 3.5 |",
    ]
    assert plain_text(table(("only", "header"), [])).splitlines()[0] == "only  header"
    assert (number(None), number(1234.56, 1), micros(None), micros(1_234_567)) == (
        "-",
        "1,234.6",
        "-",
        "1,234.6",
    )


def test_plain_text_is_whole_and_has_no_colors(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "20")
    words = " ".join(["word"] * 500)
    shown = plain_text(table(("[bold]", "n"), [[words, "1"], ["[red]x[/red]", "2"]]), "end")
    lines = shown.split("\n")
    assert lines[0].startswith("[bold]")
    assert lines[2] == f"{words}  1"
    assert lines[3].startswith("[red]x[/red] ")
    assert lines[4:] == ["", "end"]
    assert "\x1b" not in shown


def test_a_terminal_gets_a_table_of_its_width(monkeypatch: pytest.MonkeyPatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    show(table(("word", "n"), [["a word " * 10, "1,000"]]), file=terminal)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue()).splitlines()
    assert len(lines) > 3
    assert max(map(len, lines)) <= 20
    assert "1,000" in lines[2]
