"""What the command line refuses, before it does anything: the line says what to change."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.__main__ import main
from tests.support.paths import ROOT
from tests.support.ports import free_ports

BREAKOUT = "data/strategies/breakout.py"


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("command", [["backtest"], ["watch"], ["sweep", "--param", "window=1,2"]])
def test_a_strategy_without_its_class_is_refused_as_the_setting_is(capsys, command) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--strategy", BREAKOUT])
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        f"{command[0]}: invalid settings:\n"
        f"STRATEGY={BREAKOUT}: must be module:Class or path/to/file.py:Class\n"
    )


@pytest.mark.parametrize(
    "service", ["gatway", "gateway-2", "strategy-0", "../gateway", "dashboard"]
)
def test_a_fault_names_a_process_of_the_stack(capsys, service: str) -> None:
    assert main(["chaos", "kill", service]) == 2
    assert (
        f"SERVICE {service}: must be one of gateway, orderbook, strategy, order_manager, or "
        "strategy-2 and so on" in capsys.readouterr().err
    )


def test_an_order_needs_a_price_or_none_by_its_type(capsys) -> None:
    assert main(["orders", "send", "BUY", "10", "BMW"]) == 2
    assert "missing PRICE: give one, or --type MARKET (see" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--out", "--save"])
def test_a_folder_that_cannot_be_is_refused_before_the_run(capsys, option: str) -> None:
    assert main(["backtest", "--data", "no/such/file.csv", option, "/proc/x"]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"backtest: {option} /proc/x: no folder to write to: ")
    assert said.count("\n") == 1, "the missing file is not even looked for"


def test_the_help_of_run_says_how_it_is_set_and_ended(capsys) -> None:
    assert main(["run", "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in (".env", "Ctrl-C", "Exit code 0", "4: an expectation"))


@pytest.mark.parametrize(
    ("words", "setting"),
    [
        (["orders", "positions"], "ORDER_PORT"),
        (["replay", "pause"], "CONTROL_PORT"),
        (["data", "record", "{tmp}/r.parquet"], "PRICE_PORT"),
    ],
)
def test_without_a_stack_the_port_is_named(tmp_path: Path, words: list[str], setting: str) -> None:
    (port,) = free_ports(1)
    own = {setting: str(port), "SHM_METRICS": f"refusals_{port}_metrics"}
    command = [sys.executable, "-m", "app", *(w.replace("{tmp}", str(tmp_path)) for w in words)]
    done = subprocess.run(command, env=os.environ | own, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"127.0.0.1:{port}: [Errno 111] Connection refused; is the stack " in done.stderr
    assert done.stderr.endswith(f"running? {setting} says where\n")
