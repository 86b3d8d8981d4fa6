"""``python -m app``: help, exit codes, and what it imports."""

import subprocess
import sys

import pytest

from app.__main__ import COMMANDS, main
from tests.support.paths import ROOT

SUBCOMMANDS = [
    ["data", "check"],
    ["data", "convert"],
    ["orders", "cancel"],
    ["orders", "halt"],
    ["orders", "limits"],
    ["orders", "list"],
    ["orders", "ping"],
    ["orders", "positions"],
    ["orders", "reduce"],
    ["orders", "resume"],
    ["orders", "send"],
    ["orders", "status"],
    ["portfolio", "verify"],
    ["replay", "pause"],
    ["replay", "resume"],
    ["replay", "seek"],
    ["replay", "speed"],
    ["replay", "status"],
    ["replay", "step"],
    ["store", "backup"],
    ["store", "export"],
    ["store", "rebuild"],
    ["store", "restore"],
    ["store", "verify"],
]


def run_code(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


def without(package: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command where a package is not installed."""
    return run_code(
        f"import sys\nsys.modules[{package!r}] = None\n"
        f"from app.__main__ import main\nsys.exit(main({list(words)}))"
    )


def test_help_lists_the_commands_and_loads_none_of_them():
    result = run_code(
        "import sys\nfrom app.__main__ import main\ncode = main(['--help'])\n"
        "print(code, sorted({'numpy', 'apsw', 'rich', 'msgspec', 'app.config'} & set(sys.modules)))"
    )
    assert result.stderr == ""
    *lines, last = result.stdout.splitlines()
    assert lines[0] == "Usage: python -m app [OPTIONS] COMMAND [ARGS]..."
    listed = {line.split()[0] for line in lines[lines.index("Commands:") + 1 :]}
    assert listed == {
        "run", "backtest", "stat", "report", "trace", "orders", "store", "compare", "crash",
        "chaos", "verdict", "replay", "proof", "data", "sweep", "watch", "portfolio",
    }  # fmt: skip
    assert last == "0 []"


@pytest.mark.parametrize("option", ["-h", "--help"])
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, option: str, capsys: pytest.CaptureFixture[str]):
    assert main([command, option]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"Usage: python -m app {command} [OPTIONS]")
    assert COMMANDS[command][1] in shown
    assert "..." not in shown.partition("\n")[2], "a help text that is cut off"


@pytest.mark.parametrize(("command", "subcommand"), SUBCOMMANDS)
def test_every_subcommand_has_help(
    command: str, subcommand: str, capsys: pytest.CaptureFixture[str]
):
    assert main([command, subcommand, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"Usage: python -m app {command} {subcommand} [OPTIONS]")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["nothing"], "python -m app: No such command 'nothing'."),
        (["--nothing"], "python -m app: No such option '--nothing'."),
        (["orders", "nothing"], "python -m app orders: No such command 'nothing'."),
        (["orders", "send"], "python -m app orders send: Missing argument"),
        (["backtest", "--ticks", "0"], "python -m app backtest: Invalid value for '--ticks'"),
        (["stat", "--interval", "0"], "python -m app stat: Invalid value for '--interval'"),
    ],
)
def test_wrong_usage_is_one_line(words: list[str], named: str, capsys: pytest.CaptureFixture[str]):
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(named)
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("words", [[], ["orders"], ["store"]])
def test_no_command_shows_the_help(words: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(words) == 2
    assert capsys.readouterr().err.startswith("Usage: python -m app")


@pytest.mark.parametrize("command", ["store", "orders"])
def test_the_container_that_has_a_missing_package_is_named(command: str):
    result = without("apsw", command, "--help")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"{command}: apsw is not installed here; the order_manager ")
    assert result.stderr.count("\n") == 1


@pytest.mark.medium
def test_the_other_commands_need_no_apsw():
    for command in ("run", "backtest", "stat", "report", "proof"):
        assert without("apsw", command, "--help").returncode == 0


@pytest.mark.medium
def test_wrong_settings_end_with_2_and_the_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RING_POLICY", "unheard of")
    for words in (["stat", "--once"], ["report"], ["store", "verify"], ["orders", "ping"]):
        command = [sys.executable, "-m", "app", *words]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr.startswith(f"{words[0]}: invalid settings:\nRING_POLICY=")


def test_bash_completion(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("_APP_COMPLETE", "bash_complete")
    for line, expected in (("app st", "stat store"), ("app orders re", "reduce resume")):
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))
        with pytest.raises(SystemExit):
            main([])
        assert capsys.readouterr().out.split() == [f"plain,{word}" for word in expected.split()]
