"""The .env file, the settings and the Compose file agree."""

import re

from dotenv import dotenv_values

from app.config import Settings
from tests.support.environ import default_environ
from tests.support.paths import ROOT

ENV_LINES = (ROOT / ".env").read_text().splitlines()
COMPOSE = (ROOT / "docker-compose.yml").read_text()
SETTING_NAMES = [name.upper() for name in Settings.__struct_fields__]


def compose_block(name: str) -> str:
    """The text of a top-level block of the Compose file."""
    found = re.search(rf"^{name}:.*\n((?:[ #].*\n|\n)*)", COMPOSE, re.MULTILINE)
    assert found, f"no {name} in docker-compose.yml"
    return found[0]


def test_env_lists_every_setting_in_order_with_its_default():
    values = {k: v or "" for k, v in dotenv_values(ROOT / ".env").items()}
    assert [name for name in values if name in SETTING_NAMES] == SETTING_NAMES
    assert Settings.from_environ(values) == Settings()


def test_every_line_of_env_has_its_comment():
    for above, line in zip(["", *ENV_LINES], ENV_LINES, strict=False):
        if "=" in line and not line.startswith("#"):
            assert above.startswith("# "), f"no comment above {line}"
            assert not above.startswith("# ----"), f"no comment above {line}"


def test_names_of_env_are_unique():
    names = [line.partition("=")[0] for line in ENV_LINES if re.match(r"[A-Z]", line)]
    assert len(names) == len(set(names))


def test_compose_passes_on_every_setting():
    passed = set(re.findall(r"\b[A-Z][A-Z_]+\b(?=[,: }])", compose_block("x-settings")))
    fixed = set(re.findall(r"^  ([A-Z_]+):", compose_block("x-environment"), re.MULTILINE))
    assert passed.isdisjoint(fixed)
    assert passed | fixed == set(SETTING_NAMES)


def test_every_variable_that_compose_uses_is_in_env():
    used = set(re.findall(r"\$\{([A-Z_]+)", COMPOSE)) - {"VALUE"}
    assert used <= set(dotenv_values(ROOT / ".env"))


def test_defaults_in_compose_are_those_of_env():
    values = dotenv_values(ROOT / ".env")
    for name, default in re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", COMPOSE):
        if default != "/dev/null":
            assert values[name] == default, name


def test_tests_ignore_the_settings_of_the_calling_shell(monkeypatch):
    monkeypatch.setenv("SEED", "1000")
    assert default_environ()["SEED"] == str(Settings().seed)
