"""The order manager for people and scripts: ``send BUY 10 AAPL 173.2``, ``positions`` and others.

Prints tables, or with ``--json`` the answer as it came.  Finds the order manager, its token and its
certificate through the settings, so it also works in
the container.  Exit code 0: done; 1: refused, or nobody answers; 2: wrong usage.
"""

import argparse
import json
import sys
from typing import Any, Final

import msgspec

from app.config import EXIT_SETTINGS, SettingsError, settings_or_exit
from app.model.wire.frames import json_frame
from app.runtime.metrics.tables import text_table
from app.runtime.net.access import connect_orders
from app.runtime.net.receive import read_until

ORDER_COLUMNS: Final = (
    "id",
    "client",
    "side",
    "qty",
    "symbol",
    "price",
    "status",
    "filled_qty",
    "avg_price",
)
POSITION_COLUMNS: Final = (
    "client",
    "symbol",
    "qty",
    "avg_cost",
    "mark",
    "realised",
    "unrealised",
    "open_buy",
    "open_sell",
)
FILL_COLUMNS: Final = ("exec_id", "qty", "price", "at_ns")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print the answer as it came")
    common.add_argument("--host", help="default: ORDER_MANAGER_HOST")
    common.add_argument("--port", type=int, help="default: ORDER_PORT")
    common.add_argument("--timeout", type=float, default=5.0, help="seconds (default: 5)")
    common.add_argument("--client", help="on whose behalf, or about whom (default: everybody)")
    top = argparse.ArgumentParser(prog="python -m app.order_manager.cli", description=__doc__)
    commands = top.add_subparsers(dest="op", required=True)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, parents=[common])

    send = add("send", "a new order")
    send.add_argument("side", choices=("BUY", "SELL"))
    send.add_argument("qty", type=int)
    send.add_argument("symbol")
    send.add_argument("price", type=float, nargs="?", help="may be left out with --type MARKET")
    send.add_argument("--id", type=int, help="default: the order manager assigns one")
    send.add_argument("--type", choices=("MARKET", "LIMIT"))
    send.add_argument("--tif", choices=("IOC", "GTC", "DAY"))
    send.add_argument("--ts", help="your own time of the order")
    add("cancel", "cancel an open order").add_argument("id", type=int)
    add("status", "one order and its fills").add_argument("id", type=int)
    add("positions", "holdings and profit").add_argument("--symbol")
    orders = add("orders", "open orders, newest first")
    orders.add_argument("--all", action="store_true", help="closed ones, too")
    orders.add_argument("--limit", type=int, help="at most so many, up to 200")
    add("limits", "what may be traded, and how much of it is used")
    halt = add("halt", "refuse new orders")
    halt.add_argument("--kill", action="store_true", help="and cancel every open one")
    for command in (halt, add("resume", "trade again"), add("reduce", "only shrink positions")):
        command.add_argument("--reason", help="for the log")
    add("ping", "does it answer?")
    return top


def request_of(options: argparse.Namespace) -> dict[str, Any]:
    """The request for a command line."""
    left_out = {"json", "host", "port", "timeout", "op", "all"}
    members = {k: v for k, v in vars(options).items() if k not in left_out and v is not None}
    if options.op == "send":
        return members
    if options.op == "orders":
        members["open"] = not options.all
    if options.op == "ping":
        members.clear()
    return {"op": options.op, **members}


def ask(options: argparse.Namespace) -> bytes:
    """Send the request and read its answer, delimiter removed.

    Raises:
        OSError: nobody answers.
        SettingsError: a file that the settings name cannot be used.
    """
    settings = settings_or_exit("cli")
    settings = msgspec.structs.replace(
        settings,
        order_manager_host=options.host or settings.order_manager_host,
        order_port=options.port or settings.order_port,
    )
    frame = json_frame(json.dumps(request_of(options)).encode())
    with connect_orders(settings, options.timeout) as connection:
        connection.sendall(frame)
        return read_until(connection)[:-1]


def show(answer: dict[str, Any]) -> str:
    """An answer as text for a terminal."""
    if not answer["ok"]:
        return f"{answer['code']}: {answer['msg']}"
    blocks = []
    if "order" in answer:
        blocks.append(_table(ORDER_COLUMNS, [answer["order"]]))
    if answer.get("fills"):
        blocks.append(_table(FILL_COLUMNS, answer["fills"]))
    if "orders" in answer:
        blocks.append(_table(ORDER_COLUMNS, answer["orders"]))
    if "positions" in answer:
        blocks.append(_table(POSITION_COLUMNS, answer["positions"]))
    for name in ("total", "limits", "used"):
        if name in answer:
            rows = [[key, _cell(value)] for key, value in answer[name].items()]
            blocks.append(text_table([name, "value"], rows))
    if "mode" in answer:
        account = answer["client"] or "the whole stack"
        canceled = f", {answer['canceled']} orders canceled" if answer.get("canceled") else ""
        blocks.append(f"{account}: {answer['mode']}{canceled}")
    return "\n\n".join(blocks) or "ok"


def _table(columns: tuple[str, ...], rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "none"
    return text_table(columns, [[_cell(row[name]) for name in columns] for row in rows])


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {inner}" for key, inner in value.items()) or "-"
    return "-" if value is None else str(value)


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = parser().parse_args(argv)
    try:
        frame = ask(options)
    except SettingsError as error:
        print(f"cli: {error}", file=sys.stderr)
        return EXIT_SETTINGS
    except OSError as error:
        print(f"cli: no answer from the order manager: {error}", file=sys.stderr)
        return 1
    # Money as the text it came in, to the last digit.
    answer = json.loads(frame, parse_float=str)
    if options.json:
        print(frame.decode())
    else:
        print(show(answer), file=sys.stdout if answer["ok"] else sys.stderr)
    return 0 if answer["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
