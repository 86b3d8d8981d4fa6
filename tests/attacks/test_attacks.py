"""Every attack is tried; the page says what it does to a user, to the log and to other clients.

``WRITE_ATTACKS=1 .venv/bin/python -m pytest tests/attacks`` writes ``attacks.md`` again; with
``-k "name or the_page"`` only the rows of the attacks of that name.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks.measure import CALM_S, Stages, Tried, try_attack
from tests.attacks.model import WINDOW_S, Attack
from tests.attacks.table import ATTACKS, FAMILIES
from tests.attacks.trader import EVERY_S
from tests.support.paths import ROOT

PAGE = ROOT / "tests/attacks/attacks.md"
WRITE = bool(os.environ.get("WRITE_ATTACKS"))
if not PAGE.exists() and not WRITE:
    pytest.skip("the image has no documentation", allow_module_level=True)

RATIO_MAX = 2.0
TRIES = 3
CELL = re.compile(r" (?<!\\)\| ")

# Short names, so that the page's lines are its own width here.
_MS, _S, _CALM = f"{EVERY_S * 1000:g}", f"{WINDOW_S:g}", f"{2 * CALM_S:g}"
HEAD = f"""# Attacks

Written by `tests/attacks/test_attacks.py`, which tries each of these on real processes and checks
the second and third column word for word:

```bash
WRITE_ATTACKS=1 .venv/bin/python -m pytest tests/attacks
```

- **What a user sees:** the answers, codes and outcomes.
- **What is logged:** all events of level WARNING and ERROR. More than five of a kind and host in
  ten seconds are one line with their number, `clients_refused` or `requests_refused`.
- **p99:** that of another client's orders during the attack, divided by that of the same client on
  the same stack just before and after it. The client sends an order every {_MS} ms, measured from
  its due time to the durable ACK, for {_S} s during the attack and {_CALM} s around it. Each is
  acknowledged exactly once. An attack may take up to {TRIES} tries to stay at or below
  {RATIO_MAX:g}, because of other work on the machine; the lowest counts. What stays above is bold.
  The attacker has the lowest priority, since one from outside shares no CPU with the stack. A dash:
  orders wait, or the process ends, by design, or no order passes there. Only this command measures;
  the suite checks what is seen and logged.
"""
TABLE = """
## {title}

| attack | what a user sees | what is logged | p99 |
|---|---|---|---|
"""


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stages]:
    found = Stages(tmp_path_factory.mktemp("stages"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def tried() -> dict[str, Tried]:
    """What has happened so far, by the attack's name."""
    return {}


def parameters() -> Iterator[object]:
    for number, attack in enumerate(ATTACKS):
        mark = pytest.mark.medium if attack.small else pytest.mark.slow
        name = re.sub(r"\W+", "_", attack.name.replace("`", "")).strip("_")
        yield pytest.param(number, attack, marks=mark, id=name)


@pytest.mark.parametrize(("number", "attack"), list(parameters()))
def test_attack(
    stages: Stages, tried: dict[str, Tried], tmp_path: Path, number: int, attack: Attack
) -> None:
    ratios: list[float] = []
    for attempt in range(TRIES if WRITE else 1):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        found = try_attack(attack, number + attempt * len(ATTACKS), stages, folder)
        assert not found.problems, "\n".join(found.problems)
        ratios.append(found.ratio or 0.0)
        if ratios[-1] == min(ratios):
            tried[attack.name] = found
        if ratios[-1] <= RATIO_MAX:
            return


def page_of(tried: dict[str, Tried], page: str) -> str:
    """The page, from what has happened; a row of an attack that was not tried stays."""
    before = {row[0]: row[3] for row in rows_of(page)}
    text = HEAD
    for family in FAMILIES:
        text += TABLE.format(title=family.title)
        for attack in family.attacks:
            shown = before.get(attack.name, "-")
            if attack.name in tried:
                ratio = tried[attack.name].ratio
                shown = "-" if ratio is None else f"{ratio:.1f}"
                if ratio is not None and ratio > RATIO_MAX:
                    shown = f"**{shown}**"
            text += f"| {attack.name} | {attack.shown} | {attack.logged} | {shown} |\n"
    return text


def rows_of(page: str) -> list[list[str]]:
    """The cells of every attack's row."""
    cells = [CELL.split(line.strip("| ")) for line in page.splitlines() if line.startswith("| ")]
    return [found for found in cells if found[0] != "attack"]


def test_the_page_has_every_attack(tried: dict[str, Tried]) -> None:
    """Runs last; with WRITE_ATTACKS it writes the page first."""
    if WRITE:
        PAGE.write_text(page_of(tried, PAGE.read_text() if PAGE.exists() else ""))
    page = PAGE.read_text()
    assert page.startswith(HEAD), "WRITE_ATTACKS=1 writes the page again"
    rows = rows_of(page)
    assert [row[:3] for row in rows] == [[a.name, a.shown, a.logged] for a in ATTACKS]
    for attack, row in zip(ATTACKS, rows, strict=True):
        assert bool(re.fullmatch(r"(\*\*)?\d+\.\d(\*\*)?", row[3])) == attack.measured, attack.name


def test_the_table_is_large_and_has_a_few_of_every_day() -> None:
    assert len(ATTACKS) >= 60
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)
    small = [attack for attack in ATTACKS if attack.small]
    assert 12 <= len(small) <= 24
    assert len({attack.family for attack in small}) >= 12
