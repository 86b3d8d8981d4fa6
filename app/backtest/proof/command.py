"""``python -m app proof``: an undisturbed computation beside a running stack, compared live."""

import sys
import time
from typing import Final

import click
import msgspec

from app.backtest.proof.follower import CannotTell, Follower, State
from app.config.loading import EXIT_SETTINGS, print_settings_error, settings_or_exit
from app.config.settings import Settings, SettingsError
from app.market_data.feed import Feed
from app.market_data.live.places import NoRecordingYet
from app.market_data.sources.errors import DataError
from app.market_data.sources.loader import open_feed
from app.market_data.sources.progress import LoadInterrupted, LoadProgress
from app.runtime.lifecycle import Stop
from app.strategy.failure import StrategyError

EXIT_EQUAL, EXIT_DIFFERENT, EXIT_CANNOT_TELL = 0, 1, 3
EVERY_S: Final = 1.0
NEAR_END_S: Final = 2.0
NEAR_END_POLL_S: Final = 0.05
"""A stack on a host ends soon after its run."""
DUTY: Final = 4
"""While it catches up it works a quarter of the time."""
NAP_S_MAX: Final = 0.25


class Output:
    """One line a second; on a terminal always the same one."""

    def __init__(self, as_json: bool) -> None:
        self._json = as_json or not sys.stdout.isatty()

    def show(self, state: State) -> None:
        """The state now."""
        if self._json:
            print(msgspec.json.encode(state.to_json()).decode(), flush=True)
        else:
            print(f"\r\x1b[2K{state}", end="", flush=True)

    def end(self, state: State) -> None:
        """The last state."""
        self.show(state)
        if not self._json:
            print(flush=True)


class Run:
    """Steps, lines and pauses until the proof ends."""

    def __init__(self, settings: Settings, follower: Follower, stop: Stop, output: Output) -> None:
        self._settings, self._follower = settings, follower
        self._stop, self._output = stop, output
        self._ticks_per_s = 0.0
        self._found = False
        """Whether there has been a stack."""

    def follow(self) -> str:
        """Go along with the stack; returns why the proof is incomplete, or nothing.

        Raises:
            CannotTell, StrategyError: as :meth:`Follower.step`.
        """
        follower = self._follower
        lost_s = shown_s = time.monotonic()
        published = 0
        while not self._stop:
            begin_s = time.monotonic()
            follower.step()
            now_s = time.monotonic()
            if follower.answers:
                lost_s, self._found = now_s, True
            elif now_s - lost_s > self._patience_s():
                return self._why_lost()
            if now_s - shown_s >= EVERY_S:
                self._ticks_per_s = (follower.published - published) / (now_s - shown_s)
                published = follower.published
                shown_s = now_s
                self._output.show(follower.state)
            if follower.finished:
                return ""
            self._pause(now_s - begin_s, shown_s + EVERY_S)
        once = self._settings.replay == "once"
        return f"{self._stop.reason} before the end of the run" if once else ""

    def _patience_s(self) -> float:
        """How long there may be no order manager."""
        if not self._found:
            return self._settings.attach_timeout_s
        if self._follower.sees_ring:
            return float("inf")
        return NEAR_END_S if self._settings.replay == "once" else self._settings.stall_timeout_s

    def _why_lost(self) -> str:
        if not self._found:
            return f"{self._follower.state.note}; is the stack running with the same settings?"
        if self._settings.replay == "once" and not self._follower.finish(lambda: not self._stop):
            return "the stack ended before its last orders were asked for"
        return ""

    def _pause(self, worked_s: float, until_s: float) -> None:
        behind = self._follower.behind
        if self._follower.ends_within(NEAR_END_S, self._ticks_per_s):
            nap_s = 0.0 if behind else NEAR_END_POLL_S
        elif behind:
            nap_s = min((DUTY - 1) * worked_s, NAP_S_MAX)
        else:
            nap_s = until_s - time.monotonic()
        time.sleep(min(max(nap_s, 0.001), EVERY_S))


def verdict(state: State, incomplete: str) -> tuple[int, str]:
    """Exit code and, unless all is equal, the reason."""
    if state.difference is not None:
        return EXIT_DIFFERENT, str(state.difference)
    if incomplete:
        return EXIT_CANNOT_TELL, incomplete
    if not state.equal:
        return EXIT_CANNOT_TELL, state.note or "no order to compare"
    return EXIT_EQUAL, ""


def _feed_of_stack(settings: Settings, loading: LoadProgress, stop: Stop) -> Feed:
    """The ticks of the run; of a live one as soon as the gateway has begun its recording.

    Raises:
        DataError: they cannot be read, or there was no recording within ATTACH_TIMEOUT_S.
        LoadInterrupted, SettingsError: as :func:`open_feed`.
    """
    until_s = time.monotonic() + settings.attach_timeout_s
    while True:
        try:
            return open_feed(settings, loading)
        except NoRecordingYet:
            if stop or time.monotonic() > until_s:
                raise
            time.sleep(NAP_S_MAX)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="JSON lines on a terminal, too")
def command(as_json: bool) -> int:
    """Exit code 0: equal, 1: different, 2: wrong usage or settings, 3: cannot tell.

    It computes the run of the running stack a second time, undisturbed and no faster than the
    stack, and compares each order and its answer with the order manager's. A line each second says
    how many are equal, or the first difference; as JSON where the output is not a terminal.

    It ends with the run, on Ctrl-C, or when there is no stack any more. A new run is a new proof.
    """
    settings, stop = settings_or_exit("proof"), Stop()
    stop.install()
    output, follower, incomplete = Output(as_json), None, ""
    try:
        with LoadProgress(lambda: bool(stop)) as loading:
            feed = _feed_of_stack(settings, loading, stop)
        follower = Follower(settings, feed)
        incomplete = Run(settings, follower, stop, output).follow()
    except LoadInterrupted:
        incomplete = stop.reason
    except SettingsError as error:
        print_settings_error("proof", error)
        return EXIT_SETTINGS
    except (CannotTell, DataError, StrategyError) as error:
        incomplete = str(error)
    state = State(note=incomplete)
    if follower is not None:
        state = follower.state._replace(note=incomplete or follower.state.note)
        follower.close()
    output.end(state)
    code, reason = verdict(state, incomplete)
    if reason:
        word = "different" if code == EXIT_DIFFERENT else "cannot tell"
        print(f"proof: {word}: {reason}", file=sys.stderr)
    return code
