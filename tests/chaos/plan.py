"""What is done to a run and when: drawn from a seed, kept on one page."""

import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple


class Fault(NamedTuple):
    """``action`` on ``target`` when the strategy has come to ``tick``; some last ``for_s``."""

    tick: int
    action: str
    target: str
    for_s: float

    def __str__(self) -> str:
        lasting = f" for {self.for_s:.2f} s" if self.for_s else ""
        return f"{self.action} {self.target}{lasting}"


class Choice(NamedTuple):
    """An action, how often it is drawn, what it may be done to, and how long it may last."""

    action: str
    weight: int
    targets: Sequence[str]
    longest_s: float = 0.0


def draw(
    seed: int, faults: int, ticks: int, choices: Sequence[Choice], per_target_max: int = 5
) -> list[Fault]:
    """``faults`` faults in the order of their ticks, none on one target more than the given times.

    Half of them fall together with the one before, so that faults meet the recovery from others.
    """
    dice = random.Random(f"{seed}/faults")
    used: dict[str, int] = {}
    drawn: list[Fault] = []
    tick = 0
    while len(drawn) < faults:
        choice = dice.choices(choices, [c.weight for c in choices])[0]
        target = dice.choice(choice.targets)
        if used.get(target, 0) >= per_target_max:
            continue
        used[target] = used.get(target, 0) + 1
        if not drawn or dice.random() < 0.5:
            tick = dice.randrange(ticks)
        for_s = 0.05 + dice.random() ** 2 * (choice.longest_s - 0.05) if choice.longest_s else 0.0
        drawn.append(Fault(tick, choice.action, target, for_s))
    return sorted(drawn, key=lambda fault: fault.tick)


class Account:
    """One page on one run, written line by line, so that it stands there even after a crash."""

    def __init__(self, path: Path, title: str, facts: Mapping[str, object]) -> None:
        self.path = path
        self._started_s = time.monotonic()
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"# {title}", "", *(f"- {name}: {value}" for name, value in facts.items()), ""]
        path.write_text("\n".join(lines) + "\n| s | tick | what |\n|---:|---:|---|\n")

    def note(self, what: str, tick: int | str = "", at_s: float | None = None) -> None:
        """What is done now, or was begun at ``at_s`` of the monotonic clock."""
        passed_s = (at_s or time.monotonic()) - self._started_s
        with self.path.open("a") as page:
            page.write(f"| {passed_s:.2f} | {tick} | {what} |\n")

    def close(self, verdict: str) -> None:
        """How it ended."""
        with self.path.open("a") as page:
            page.write(f"\n**{verdict}**\n")
