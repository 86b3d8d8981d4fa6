"""Progress: a bar on a terminal, log lines or nothing elsewhere; a stop interrupts a load."""

import io

import pytest

from app.market_data.sources.progress import LoadInterrupted, LoadProgress
from app.runtime import progress as progress_module
from app.runtime.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    lines: list[tuple[str, int]] = []

    class Log:
        def info(self, event: str, percent: int) -> None:
            lines.append((event, percent))

    monkeypatch.setattr(progress_module, "log", Log())
    return lines


def test_a_terminal_shows_a_bar(
    monkeypatch: pytest.MonkeyPatch, logged: list[tuple[str, int]]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with Progress("ticks", 200) as progress:
        progress(50)
        progress(200)
    assert "ticks" in terminal.getvalue()
    assert "100%" in terminal.getvalue()
    assert not logged


def test_elsewhere_it_logs_lines_or_nothing(
    monkeypatch: pytest.MonkeyPatch, logged: list[tuple[str, int]]
) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr("sys.stderr", stderr)
    with Progress("ticks", 200) as progress:
        progress(50)
    assert not logged
    with Progress("loading", log_every_s=0.0) as progress:
        progress(50, 200)
        progress(0, 0)
    assert logged == [("loading", 25), ("loading", 0)]
    assert not stderr.getvalue()


def test_a_short_task_shows_nothing(
    monkeypatch: pytest.MonkeyPatch, logged: list[tuple[str, int]]
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with Progress("ticks", 200, silent_s=60.0, log_every_s=0.0) as progress:
        progress(200)
    assert not terminal.getvalue()
    assert not logged


def test_a_stop_interrupts_a_load() -> None:
    stopped = False
    with LoadProgress(lambda: stopped) as progress:
        progress(1, 2)
        stopped = True
        with pytest.raises(LoadInterrupted):
            progress(2, 2)
