"""The faults of a run, drawn from a seed, and the page that records them."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple


class Fault(NamedTuple):
    """``action`` on ``target`` when the strategy reaches ``tick``; some last ``for_s`` seconds.

    ``together``: at the same moment as the fault before.
    """

    tick: int
    action: str
    target: str
    for_s: float
    together: bool = False

    def __str__(self) -> str:
        duration = f" for {self.for_s:.2f} s" if self.for_s else ""
        return f"{'together: ' if self.together else ''}{self.action} {self.target}{duration}"


class Choice(NamedTuple):
    """An action, its weight in the draw, its possible targets and its longest duration."""

    action: str
    weight: int
    targets: Sequence[str]
    longest_s: float = 0.0


def draw(
    seed: int, faults: int, ticks: int, choices: Sequence[Choice], per_target_max: int = 5
) -> list[Fault]:
    """Draw ``faults`` faults, sorted by tick, at most ``per_target_max`` on one target.

    Half of them share the tick of the one before.  Of those, half come together with it, at the
    same moment; the others hit the recovery from it.
    """
    rng = random.Random(f"{seed}/faults")
    used: dict[str, int] = {}
    drawn: list[Fault] = []
    tick = 0
    while len(drawn) < faults:
        choice = rng.choices(choices, [c.weight for c in choices])[0]
        target = rng.choice(choice.targets)
        if used.get(target, 0) >= per_target_max:
            continue
        used[target] = used.get(target, 0) + 1
        new = not drawn or rng.random() < 0.5
        if new:
            tick = rng.randrange(ticks)
        for_s = 0.05 + rng.random() ** 2 * (choice.longest_s - 0.05) if choice.longest_s else 0.0
        together = not new and rng.random() < 0.5
        drawn.append(Fault(tick, choice.action, target, for_s, together))
    return sorted(drawn, key=lambda fault: fault.tick)


def bursts(plan: Sequence[Fault]) -> list[list[Fault]]:
    """The plan in groups that come together."""
    found: list[list[Fault]] = []
    for fault in plan:
        if fault.together and found and found[-1][0].tick == fault.tick:
            found[-1].append(fault)
        else:
            found.append([fault])
    return found


def inject(burst: Sequence[Fault], disturb: Callable[[Fault], str], report: "RunReport") -> None:
    """Inject the faults of a burst at one moment; ``disturb`` returns what the report says."""
    at_s = time.monotonic()
    with ThreadPoolExecutor(len(burst)) as pool:
        for fault, what in zip(burst, pool.map(disturb, burst), strict=True):
            report.note(what, fault.tick, at_s)


class RunReport:
    """One page on one run, written line by line, so that a crash leaves what was written."""

    def __init__(self, path: Path, title: str, facts: Mapping[str, object]) -> None:
        self.path = path
        self._started_s = time.monotonic()
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"# {title}", "", *(f"- {name}: {value}" for name, value in facts.items()), ""]
        path.write_text("\n".join(lines) + "\n| s | tick | what |\n|---:|---:|---|\n")

    def note(self, what: str, tick: int | str = "", at_s: float | None = None) -> None:
        """Add a line: what happens now, or began at ``at_s`` of the monotonic clock."""
        passed_s = (at_s or time.monotonic()) - self._started_s
        with self.path.open("a") as page:
            page.write(f"| {passed_s:.2f} | {tick} | {what} |\n")

    def close(self, verdict: str) -> None:
        """Add the result."""
        with self.path.open("a") as page:
            page.write(f"\n**{verdict}**\n")
