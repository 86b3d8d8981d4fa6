"""``python -m app``: the command line of the stack.

click's tab completion needs a command of one word.  For bash, with the venv's ``python``::

    app() { python -m app "$@"; }
    _app() { COMPREPLY=($(COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD \\
        _APP_COMPLETE=bash_complete app | sed -n 's/^plain,//p')); }
    complete -o default -F _app app
"""

import inspect
import sys
from importlib import import_module
from typing import Final

import click

PROGRAM: Final = "python -m app"
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130

COMMANDS: Final = {
    "run": ("app.main:main", "Run the stack on this host."),
    "backtest": ("app.backtest.command:command", "Run a strategy on a price file, in one process."),
    "watch": (
        "app.backtest.watch.command:command",
        "Run the backtest again whenever the strategy is saved.",
    ),
    "sweep": (
        "app.backtest.sweep.command:command",
        "Run a backtest for each combination of parameters, on all cores.",
    ),
    "data": ("app.market_data.inspect.command:command", "Check, convert and record data."),
    "stat": ("app.runtime.metrics.stat:command", "Show states, rates and latencies, live."),
    "report": ("app.runtime.metrics.report_command:command", "Report on the run so far."),
    "trace": ("app.runtime.trace.command:command", "Show where the time of an order went."),
    "orders": ("app.order_manager.cli:command", "Send orders, ask about them, halt trading."),
    "replay": ("app.runtime.control.command:command", "Pause the market, step, speed, jump."),
    "verdict": (
        "app.runtime.verdict.command:main",
        "Wait for the end of the containers' run, judge it.",
    ),
    "compare": ("app.backtest.compare:command", "Compare the run so far with a backtest."),
    "proof": ("app.backtest.proof.command:command", "Compare the run with a backtest, live."),
    "crash": ("app.backtest.crash:command", "Crash a process, check its recovery."),
    "chaos": ("app.runtime.chaos.command:command", "Ask a process of the stack to fail."),
    "store": (
        "app.order_manager.store.command:command",
        "Back up, restore, export, check the store.",
    ),
    "portfolio": (
        "app.portfolio.verify.command:command",
        "Compare the portfolio with its shards' stores.",
    ),
}
"""Name -> module and function, help text."""


class LazyGroup(click.Group):
    """Imports a subcommand's module only when it runs, not for help or completion."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, listed, rest = super().resolve_command(ctx, args)
        return name, load(name) if name and listed else None, rest


def load(name: str) -> click.Command:
    """Import the subcommand ``name``.

    Raises:
        ClickException: a package that it needs is not installed.
    """
    place, text = COMMANDS[name]
    module, _, attribute = place.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "app":
            raise
        raise click.ClickException(
            f"{name}: {error.name} is not installed here; the order_manager container has it "
            f"(docker compose exec order_manager python3 -m app {name}), "
            "and so does .venv after make setup"
        ) from None
    command = (
        found
        if isinstance(found, click.Command)
        else click.Command(name, help=inspect.getdoc(found), callback=found)
    )
    details = (command.help or "").partition("\n\n")[2]
    command.help = f"{text}\n\n{details}" if details else text
    return command


group = LazyGroup(
    "app",
    commands={name: click.Command(name, help=text) for name, (_, text) in COMMANDS.items()},
    help="Trading stack: gateway, orderbook, strategy, order manager.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code.

    0: done; 1: failed; 2: wrong usage or settings; 3: incomplete run; 130: interrupted.
    """
    try:
        code: int = group.main(arguments, PROGRAM, "_APP_COMPLETE", standalone_mode=False)
        return code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return EXIT_USAGE
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else PROGRAM
        message = " ".join(error.format_message().split())
        print(f"{path}: {message} (see {path} --help)", file=sys.stderr)
        return EXIT_USAGE
    except click.ClickException as error:
        print(error.format_message(), file=sys.stderr)
        return error.exit_code
    except click.Abort:
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
