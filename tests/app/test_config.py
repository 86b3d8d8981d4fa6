"""Settings: wrong values in one message before anything starts; .env and Compose agree."""

import re
import subprocess
import sys

import pytest
from dotenv import dotenv_values

from app.config.loading import load_settings, settings_or_exit, unknown_settings
from app.config.settings import Settings, SettingsError
from app.strategy.attach import fingerprint
from tests.support.environ import default_environ
from tests.support.paths import ROOT
from tests.support.ports import free_ports

ENV_LINES = (ROOT / ".env").read_text().splitlines()
COMPOSE = (ROOT / "docker-compose.yml").read_text()
SETTING_NAMES = [name.upper() for name in Settings.__struct_fields__]


def wrong(**environ: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ(environ)
    return str(caught.value).splitlines()


def test_every_wrong_value_is_named_at_once() -> None:
    lines = wrong(PRICE_PORT="99999", PACE="fast", REPLAY="never", GATEWAY_CPUS="a", SEED="-1")
    assert [line.partition("=")[0] for line in lines] == [
        "PRICE_PORT", "SEED", "PACE", "REPLAY", "GATEWAY_CPUS",
    ]  # fmt: skip
    assert "REPLAY=never: must be one of once, loop, walk" in lines
    assert any(line.startswith("PACE=fast: must be max, ticks per second") for line in lines)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("PAPER_LATENCY_MS=0,5", "a number from 0 to 86400000"),
        ("PAPER_LATENCY_MS=-1", "a number from 0 to 86400000"),
        ("QTY_DECIMALS=1.5", "a whole number from 0 to 9"),
        ("ORDER_GROUP_MAX=0", "a whole number from 1 to 4096"),
        ("ORDER_QTY=0,5", "a number"),
        ("SEED=a", "a whole number of at least 0"),
        ("STALL_TIMEOUT_S=0", "a number above 0 up to 86400"),
        ("CHAOS=maybe", "true or false"),
        ("LOG_LEVEL=x", "one of DEBUG, INFO, WARNING, ERROR"),
    ],
)
def test_a_wrong_value_is_said_in_words(line: str, says: str) -> None:
    name, _, value = line.partition("=")
    with pytest.raises(SettingsError, match=re.escape(f"{line}: must be {says}") + "$"):
        Settings.from_environ({name: value})


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({"SHORT_WINDOW_TICKS": "20", "LONG_WINDOW_TICKS": "20"}, "SHORT_WINDOW_TICKS"),
        ({"BULLISH_THRESHOLD": "40", "BEARISH_THRESHOLD": "60"}, "BEARISH_THRESHOLD"),
        ({"RING_CAPACITY_TICKS": "5000"}, "RING_CAPACITY_TICKS"),
        ({"SHM_METRICS": "price_book"}, "SHM_"),
        ({"PACE": "0/s"}, "PACE"),
        ({"PACE": "0.0000001/s"}, "PACE"),
    ],
)
def test_contradictory_settings(environ: dict[str, str], names: str) -> None:
    assert any(names in line for line in wrong(**environ))


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("wss://me:SECRET@host:1/ws/a?key=SECRET", "wss://host:1/ws/a"),
        ("wss://host?token=SECRET", "wss://host"),
        ("wss://host#SECRET", "wss://host"),
        ("wss://host/a@trade?token=SECRET@x", "wss://host/a@trade"),
        ("wss://me:SECRET/SECRET@host", "wss://..."),
        ("wss://me:SECRET?@host", "wss://..."),
        ("wss://SECRET@[::1]:9/ws", "wss://[::1]:9/ws"),
        ("/srv/data/wss://host/ws?token=SECRET", "/srv/data/wss://host/ws"),
        ("wss://host/ws?token=SECRET SECRET", "wss://host/ws"),
        ("data/2025-??.csv, b.csv", "data/2025-??.csv, b.csv"),
    ],
)
def test_an_address_is_shown_without_its_secrets(address: str, shown: str) -> None:
    assert Settings(data_path=address).shown_data_path == shown


def test_an_address_without_an_end_is_refused_without_its_secrets() -> None:
    lines = wrong(DATA_PATH="wss://me:SECRET@host?t=SECRET", REPLAY="once", LIVE_SYMBOLS="A")
    assert any("DATA_PATH=wss://host has no end" in line for line in lines)
    assert "SECRET" not in str(lines)


def test_the_environment_overrides_the_file(tmp_path) -> None:
    file = tmp_path / ".env"
    file.write_text("PACE=5/s\nSEED=7\n")
    settings = load_settings({"PACE": "9/s"}, file)
    assert (settings.pace, settings.seed) == ("9/s", 7)


SERVICES = ("gateway", "orderbook", "strategy", "order_manager", "dashboard", "main")


@pytest.mark.parametrize("service", SERVICES)
def test_a_process_with_wrong_settings_exits_2_and_says_why(service: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"app.{service}"],
        env={"PACE": "fast", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "PACE=fast: must be max" in done.stderr


@pytest.mark.parametrize(
    ("policy", "code"), [("on-failure", 0), ("on-failure:3", 0), ("no", 2), ("", 2)]
)
def test_wrong_settings_are_not_restarted_for_ever(policy: str, code: int) -> None:
    """The engine restarts every code but 0; the reason is the last line."""
    done = subprocess.run(
        [sys.executable, "-m", "app.order_manager"],
        env={"PACE": "fast", "PATH": "", "RESTART_POLICY": policy},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == code
    assert done.stderr.splitlines()[-1].startswith("PACE=fast: must be max")


def test_another_configuration_sends_orders_under_another_name() -> None:
    base = fingerprint(Settings(), "data")
    assert base == fingerprint(Settings(log_level="DEBUG", pace="max"), "data")
    others = [
        Settings(order_qty=11),
        Settings(risk_client_qty_max=5),
        Settings(paper_slippage_bps=1.0),
        Settings(trading_mode="live"),
    ]
    names = {base, fingerprint(Settings(), "other data")}
    names |= {fingerprint(settings, "data") for settings in others}
    assert len(names) == 2 + len(others)


# ---- .env, the settings and the Compose file agree


def compose_block(name: str) -> str:
    """The text of a top-level block of the Compose file."""
    found = re.search(rf"^{name}:.*\n((?:[ #].*\n|\n)*)", COMPOSE, re.MULTILINE)
    assert found, f"no {name} in docker-compose.yml"
    return found[0]


def test_env_lists_every_setting_in_order_with_its_default() -> None:
    values = {k: v or "" for k, v in dotenv_values(ROOT / ".env").items()}
    assert [name for name in values if name in SETTING_NAMES] == SETTING_NAMES
    assert Settings.from_environ(values) == Settings()


def test_every_line_of_env_has_its_comment() -> None:
    for above, line in zip(["", *ENV_LINES], ENV_LINES, strict=False):
        if "=" in line and not line.startswith("#"):
            assert above.startswith("# "), f"no comment above {line}"
            assert not above.startswith("# ----"), f"no comment above {line}"


def test_names_of_env_are_unique() -> None:
    names = [line.partition("=")[0] for line in ENV_LINES if re.match(r"[A-Z]", line)]
    assert len(names) == len(set(names))


def test_compose_passes_on_every_setting() -> None:
    passed = set(re.findall(r"\b[A-Z][A-Z_]+\b(?=[,: }])", compose_block("x-settings")))
    fixed = set(re.findall(r"^  ([A-Z_]+):", compose_block("x-environment"), re.MULTILINE))
    assert passed.isdisjoint(fixed)
    # The restart policy is no setting of a process: it only decides the code for invalid settings.
    assert passed | fixed == set(SETTING_NAMES) | {"RESTART_POLICY"}


def test_every_variable_that_compose_uses_is_in_env() -> None:
    used = set(re.findall(r"\$\{([A-Z_]+)", COMPOSE)) - {"VALUE"}
    assert used <= set(dotenv_values(ROOT / ".env"))


def test_defaults_in_compose_are_those_of_env() -> None:
    values = dotenv_values(ROOT / ".env")
    for name, default in re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", COMPOSE):
        if default != "/dev/null":
            assert values[name] == default, name


def test_tests_ignore_the_settings_of_the_calling_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEED", "1000")
    assert default_environ()["SEED"] == str(Settings().seed)


def test_a_misspelled_setting_is_named_with_the_nearest(
    tmp_path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PAPER_FEE_PR_SHARE", "1")
    monkeypatch.setenv("PAPERLESS", "1")
    (tmp_path / ".env").write_text("RISK_CLIENT_QTY=5\nGATEWAY_MEMORY=1g\n# LIVE_LIKE_THIS=1\n")
    assert settings_or_exit("backtest") == load_settings()
    assert capsys.readouterr().err == (
        "backtest: RISK_CLIENT_QTY is no setting; did you mean RISK_CLIENT_QTY_MAX?\n"
        "backtest: PAPER_FEE_PR_SHARE is no setting; did you mean PAPER_FEE_PER_SHARE?\n"
    )


def test_the_projects_own_env_has_no_misspelled_setting() -> None:
    assert unknown_settings(ROOT / ".env") == []


@pytest.mark.medium
def test_a_run_warns_of_a_misspelled_setting(tmp_path) -> None:
    strange = {"EXPECT_FILL_MIN": "1", "DATA_PATH": "none.csv", "OUTPUT_DIR": str(tmp_path)}
    (port,) = free_ports(1)
    strange |= {name: f"warned_{port}_{name.lower()}" for name in SETTING_NAMES if "SHM_" in name}
    done = subprocess.run(
        [sys.executable, "-m", "app", "run"], cwd=ROOT, env=default_environ() | strange,
        capture_output=True, text=True, timeout=50,
    )  # fmt: skip
    assert "unknown_setting name=EXPECT_FILL_MIN nearest=EXPECT_FILLS_MIN" in done.stderr


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"ORDER_QTY": "0.5"}, "ORDER_QTY=0.5: must be a whole number, because QTY_DECIMALS=0"),
        ({"ORDER_QTY": "0"}, "ORDER_QTY=0: must be above 0 and at most 1000000000"),
        (
            {"QTY_DECIMALS": "2", "ORDER_QTY": "0.125"},
            "ORDER_QTY=0.125: must be a number of at most 2 decimals, because QTY_DECIMALS=2",
        ),
        (
            {"QTY_DECIMALS": "8", "RISK_LOT_SIZE": "1e-9"},
            "RISK_LOT_SIZE=0.000000001: must be a number of at most 8 decimals, because "
            "QTY_DECIMALS=8",
        ),
        ({"RISK_STACK_QTY_MAX": "-1"}, "RISK_STACK_QTY_MAX=-1: must not be below 0"),
        (
            {"QTY_DECIMALS": "9", "ORDER_QTY": "600000000"},
            "ORDER_QTY=600000000: must be above 0 and at most 500000000",
        ),
    ],
)
def test_a_quantity_has_no_more_decimals_than_the_setting(
    environ: dict[str, str], problem: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_environ(environ)
    assert str(refused.value) == problem


def test_quantities_with_decimals_reach_a_child_process_exactly() -> None:
    given = {"QTY_DECIMALS": "9", "ORDER_QTY": "123456789.123456789", "RISK_LOT_SIZE": "1e-9"}
    settings = Settings.from_environ(given)
    assert Settings.from_environ(settings.to_environ()) == settings
    assert f"{settings.order_qty:f}" == "123456789.123456789"
