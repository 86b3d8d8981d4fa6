"""One try of an attack: undisturbed, attacked, undisturbed; then what was seen and logged."""

import math
import os
import threading
import time
from pathlib import Path
from typing import Final, NamedTuple

from tests.attacks.model import Attack, Attacker
from tests.attacks.stages import LINE, STAGES, Stage

CALM_S: Final = 0.4
"""Undisturbed, before and after."""
LOG_WAIT_S: Final = 2.0
SUMS: Final = frozenset({"clients_refused", "requests_refused"})
"""Lines with the number of others, ten seconds later: perhaps while another attack is tried."""


class Tried(NamedTuple):
    """One try."""

    problems: list[str]
    ratio: float | None
    """The trader's p99 during the attack, divided by that before and after it."""
    calm_us: int = 0
    attacked_us: int = 0


class Stages:
    """At most one stage at a time, so that another does not disturb the measurement."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name = ""
        self._stage: Stage | None = None
        self._count = 0

    def get(self, name: str) -> Stage:
        """The stage of that name; ``alone`` is a new one each time."""
        if name != self._name or name == "alone" or self._stage is None:
            self.close()
            self._count += 1
            self._stage = STAGES[name](self._folder / f"{name}-{self._count}")
            self._name = name
        return self._stage

    def close(self) -> None:
        """End the stage, if there is one."""
        stage, self._stage = self._stage, None
        if stage is not None:
            stage.close()


def p99(samples: list[float]) -> float:
    """Nearest rank."""
    return sorted(samples)[math.ceil(0.99 * len(samples)) - 1]


def try_attack(attack: Attack, number: int, stages: Stages, folder: Path) -> Tried:
    """Do it once."""
    if not attack.stage:
        attacker = Attacker(Stage(), folder, number)
        attack.act(attacker)
        return Tried(_differences(attack, attacker, _events(attacker.own_log, attacker)), None)
    stage = stages.get(attack.stage)
    begin_log = len(stage.log())
    stage.trader.begin()
    time.sleep(CALM_S)
    attacker = Attacker(stage, folder, number)
    begin_s = time.monotonic()
    try:
        _in_the_background(attack, attacker)
        end_s = time.monotonic()
        time.sleep(CALM_S)
    finally:
        found = stage.trader.end()
    samples = found["samples"]
    problems = list(found["problems"])
    if attack.measured and found["refused"]:
        problems.append(f"the trader's orders were refused: {found['refused']}")
    if attack.measured and found["reconnects"]:
        problems.append("the trader lost its connection")
    if stage.position() != stage.trader.acknowledged:
        problems.append(f"position {stage.position()}, {stage.trader.acknowledged} acknowledged")
    events: set[str] = set()
    for _ in range(int(LOG_WAIT_S / 0.05)):
        events = _events(stage.log()[begin_log:] + attacker.own_log, attacker)
        if not _log_differences(attack, events):
            break
        time.sleep(0.05)
    problems += _differences(attack, attacker, events)
    attacked = [latency for due, latency in samples if begin_s <= due <= end_s]
    calm = [latency for due, latency in samples if not begin_s <= due <= end_s]
    if not attack.measured:
        return Tried(problems, None)
    ratio = p99(attacked) / p99(calm)
    return Tried(problems, ratio, int(p99(calm) * 1e6), int(p99(attacked) * 1e6))


def _in_the_background(attack: Attack, attacker: Attacker) -> None:
    """In a thread of the lowest priority: an attacker from outside shares no CPU with the stack."""
    failures: list[BaseException] = []

    def work() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        try:
            attack.act(attacker)
            for _ in attacker.beats(20):
                pass  # what it left behind may have an effect
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def _events(text: str, attacker: Attacker) -> set[str]:
    """Warnings and errors, without those about an attacker before this one."""
    found = set()
    for match in LINE.finditer(text):
        line = text[match.start() : text.find("\n", match.start())]
        peer = line.partition("peer=")[2]
        if not peer or peer.startswith(attacker.address):
            found.add(match[1] or (f"order_{match[2].lower()}" if match[2] else "invalid_settings"))
    return found - SUMS


def _differences(attack: Attack, attacker: Attacker, events: set[str]) -> list[str]:
    found = _log_differences(attack, events)
    if attacker.seen != set(attack.sees.split(", ")):
        found.append(f"seen: {', '.join(sorted(attacker.seen))}; expected {attack.sees}")
    return found


def _log_differences(attack: Attack, events: set[str]) -> list[str]:
    """An event with a question mark may be there or not."""
    wanted = attack.logs.split()
    needed = {event for event in wanted if not event.endswith("?")}
    if needed <= events <= {event.rstrip("?") for event in wanted}:
        return []
    return [f"logged: {' '.join(sorted(events))}; expected {attack.logs}"]
