"""Settings: all wrong values in one message, before anything starts."""

import subprocess
import sys

import pytest

from app.config import Settings, SettingsError, load_settings
from app.strategy.attach import fingerprint


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
    assert any(line.startswith("PACE=fast: must be max, or ticks a second") for line in lines)


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({"SHORT_WINDOW_TICKS": "20", "LONG_WINDOW_TICKS": "20"}, "SHORT_WINDOW_TICKS"),
        ({"BULLISH_THRESHOLD": "40", "BEARISH_THRESHOLD": "60"}, "BEARISH_THRESHOLD"),
        ({"RING_CAPACITY_TICKS": "5000"}, "RING_CAPACITY_TICKS"),
        ({"SHM_METRICS": "price_book"}, "SHM_"),
        ({"PACE": "0/s"}, "PACE"),
    ],
)
def test_contradictory_settings(environ: dict[str, str], names: str) -> None:
    assert any(names in line for line in wrong(**environ))


def test_the_environment_overrides_the_file(tmp_path) -> None:
    file = tmp_path / ".env"
    file.write_text("PACE=5/s\nSEED=7\n")
    settings = load_settings({"PACE": "9/s"}, file)
    assert (settings.pace, settings.seed) == ("9/s", 7)


@pytest.mark.parametrize("service", ["gateway", "orderbook", "strategy", "order_manager", "main"])
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
