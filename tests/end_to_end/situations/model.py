"""What a situation of a CI run is: what is set, what happens, and how the run has to end."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.compose_stack import ComposeStack, eventually

SLOW = {"PACE": "3000/s"}  # ten seconds for the 30,000 ticks of the sample
IMPATIENT = {"STALL_TIMEOUT_S": "8", "PACE": "300/s"}  # not over before its action, on any machine
HASH = "07844bf658b6e873"
"""Of the sample with the default settings; the backtest prints it, too."""


class Run:
    """A run under way: what the actions of a situation act on."""

    def __init__(self, stack: ComposeStack, interrupt: Callable[[int], None]) -> None:
        self.stack, self.interrupt = stack, interrupt

    def wait_for_tick(self, tick: int) -> None:
        """Until the strategy has consumed ``tick`` ticks."""
        eventually(
            lambda: [c for c in self.stack.counters() if c["ticks_consumed"] >= tick],
            f"tick {tick}",
            60,
        )


Action = Callable[[Run], None]


def crash(service: str) -> Action:
    """The process inside is killed, so the restart policy applies."""
    return lambda run: run.stack.crash(service)


def kill(service: str) -> Action:
    """``docker kill``: a manual stop, which the engine does not mend."""
    return lambda run: run.stack.container(service).kill()


def compose(*arguments: str) -> Action:
    """Another Compose command meanwhile."""
    return lambda run: run.stack.compose(*arguments) and None


def interrupt(number: int) -> Action:
    """A signal to the command itself."""
    return lambda run: run.interrupt(number)


@dataclass(frozen=True)
class Situation:
    """One row of the table.

    ``meanwhile``: said in the table; done by ``action`` once the strategy is at ``tick``.
    ``data``: text of a data file of its own; ``strategy``: body of a strategy's class;
    ``token``: text and mode of a token file.  ``last``: a regular expression for the last line.
    ``or_codes``: those of other versions of Docker.  ``reports``: whether the files of the report
    are there.  ``small``: one of the few that run with the other container tests.
    """

    name: str
    code: int
    last: str
    settings: dict[str, str] = field(default_factory=dict)
    meanwhile: str = ""
    action: Action | None = None
    tick: int = 6000
    data: str = ""
    strategy: str = ""
    token: tuple[str, int] | None = None
    or_codes: tuple[int, ...] = ()
    reports: bool = True
    deadline_s: int = 60
    small: bool = False

    @property
    def command(self) -> str:
        """The settings, and what happens meanwhile, as the table shows them."""
        settings = " ".join(f"{name}={value}" for name, value in self.settings.items())
        return "; ".join(
            part for part in (f"`{settings}`" if settings else "", self.meanwhile) if part
        )


COMPLETE = r"Complete: every tick was consumed, every order was answered\."


def write_files(situation: Situation, folder: Path) -> dict[str, str]:
    """Write what the situation needs into ``folder``; returns settings that mount it."""
    folder.chmod(0o755)
    settings = dict(situation.settings)
    if situation.data:
        (folder / "own.csv").write_text(situation.data.strip(" "))
        settings["DATA_DIR"] = str(folder)
    if situation.strategy:
        text = f"from app.strategy import Strategy\nclass Mine(Strategy):\n{situation.strategy}"
        (folder / "mine.py").write_text(text)
        settings["STRATEGY_DIR"] = str(folder)
    if situation.token:
        text, mode = situation.token
        (folder / "token").write_text(text)
        (folder / "token").chmod(mode)
        settings["ORDER_TOKEN_FILE"] = str(folder / "token")
    return settings
