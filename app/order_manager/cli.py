"""``python -m app orders``: the order port for people and scripts.

Prints tables, or with ``--json`` the unchanged answer.  Finds the order manager, its token and its
certificate through the settings, so it also works in a container.
"""

import functools
import json
import os
import sys
import time
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import click
import msgspec
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from app.config.kinds import is_loopback
from app.config.loading import EXIT_SETTINGS, compose_value, settings_or_exit
from app.config.settings import Settings, SettingsError
from app.model.requests import Orders
from app.model.wire.frames import json_frame
from app.runtime.metrics import tables
from app.runtime.metrics.layout import MetricsError, read_liveness
from app.runtime.net.access import connect_orders
from app.runtime.net.receive import read_until
from app.runtime.readable import if_refused

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
    "fees",
    "borrow",
    "accrued",
    "open_buy",
    "open_sell",
)
ANY_ADDRESS: Final = ("", "0.0.0.0", "::")
FILL_COLUMNS: Final = ("exec_id", "qty", "price", "at_ns")


class Number(click.ParamType[msgspec.Raw]):
    """A decimal number that is sent with the digits it was given with."""

    name = "number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> msgspec.Raw:
        """The number as JSON."""
        try:
            text = format(Decimal(value), "f")
        except InvalidOperation:
            self.fail(f"{value!r} is not a number", param, ctx)
        if not text.lstrip("-").replace(".", "", 1).isdigit():
            self.fail(f"{value!r} is not a number", param, ctx)
        return msgspec.Raw(text.encode())


ID: Final = click.Argument(["id"], type=int)
REASON: Final = click.Option(["--reason"], help="for the log")
SUBCOMMANDS: Final[dict[str, tuple[str, list[click.Parameter]]]] = {
    "send": (
        "Send a new order.",
        [
            click.Argument(["side"], type=click.Choice(("BUY", "SELL"))),
            click.Argument(["qty"], type=Number()),
            click.Argument(["symbol"]),
            click.Argument(["price"], type=Number(), required=False),
            click.Option(["--id"], type=int, help="default: the order manager assigns one"),
            click.Option(
                ["--type"], type=click.Choice(("MARKET", "LIMIT")), help="MARKET needs no price"
            ),
            click.Option(["--tif"], type=click.Choice(("IOC", "GTC", "DAY")), help="time in force"),
            click.Option(["--ts"], help="your own time of the order"),
        ],
    ),
    "cancel": ("Cancel an open order.", [ID]),
    "status": ("Show one order and its fills.", [ID]),
    "list": (
        "List open orders, newest first.",
        [
            click.Option(["--all"], is_flag=True, help="include closed orders"),
            click.Option(["--limit"], type=int, help="at most this many, up to 200"),
        ],
    ),
    "positions": ("Show holdings and profit.", [click.Option(["--symbol"])]),
    "limits": ("Show the limits, and how much of them is used.", []),
    "halt": (
        "Refuse new orders.",
        [click.Option(["--kill"], is_flag=True, help="also cancel all open orders"), REASON],
    ),
    "resume": ("Trade again.", [REASON]),
    "reduce": ("Accept only orders that shrink positions.", [REASON]),
    "ping": ("Ask whether the order manager answers.", []),
}
"""Help and parameters of each, without :data:`COMMON_OPTIONS`."""
COMMON_OPTIONS: Final[list[click.Parameter]] = [
    click.Option(["--json", "as_json"], is_flag=True, help="print the unchanged answer"),
    click.Option(["--host"], help="default: ORDER_MANAGER_HOST; for containers PUBLISH_HOST"),
    click.Option(
        ["--port"], type=int, help="default: ORDER_PORT; for containers PUBLISHED_ORDER_PORT"
    ),
    click.Option(["--timeout", "timeout_s"], type=float, default=5.0, help="seconds; default: 5"),
    click.Option(["--client"], help="whose orders; default: client 'default', or all"),
]


def request_of(name: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """The request of a subcommand; parameters that were not given are left out."""
    if name == "ping":
        return {"op": name}
    members = {key: value for key, value in parameters.items() if value is not None}
    if name == "send":
        return members
    if name == "list":
        return {"op": "orders", "open": not members.pop("all"), **members}
    return {"op": name, **members}


def target(settings: Settings, host: str | None, port: int | None) -> Settings:
    """The settings with the order manager's address as this command reaches it.

    On a host whose stack runs in containers, that is the address on which Compose publishes the
    port.  An order manager of this host, or an address that the caller names, comes first.

    Raises:
        SettingsError: PUBLISHED_ORDER_PORT is not a port.
    """
    if host or port:
        return msgspec.structs.replace(
            settings,
            order_manager_host=host or settings.order_manager_host,
            order_port=port or settings.order_port,
        )
    published = compose_value("PUBLISHED_ORDER_PORT")
    names_its_own = "ORDER_PORT" in os.environ and "PUBLISHED_ORDER_PORT" not in os.environ
    elsewhere = not is_loopback(settings.order_manager_host)
    if not published or names_its_own or elsewhere or _runs_here(settings):
        return settings
    if not published.isdigit() or not 0 < int(published) < 1 << 16:
        raise SettingsError(f"PUBLISHED_ORDER_PORT={published}: must be a TCP port, 1 to 65535")
    address = compose_value("PUBLISH_HOST")
    return msgspec.structs.replace(
        settings,
        order_manager_host=settings.order_manager_host if address in ANY_ADDRESS else address,
        order_port=int(published),
    )


def _runs_here(settings: Settings) -> bool:
    """Whether an order manager with these settings is alive on this host, or in this container."""
    try:
        blocks = read_liveness(settings.shm_metrics)
    except MetricsError:
        return False
    oldest_ns = time.monotonic_ns() - int(settings.heartbeat_timeout_s * 1e9)
    return any(b.service == "order_manager" and b.heartbeat_ns > oldest_ns for b in blocks)


def ask(request: dict[str, Any], settings: Settings, timeout_s: float) -> bytes:
    """Send a request and read its answer, delimiter removed.

    Raises:
        OSError: no answer from the order manager.
        SettingsError: a file that the settings name cannot be used.
    """
    with connect_orders(settings, timeout_s) as connection:
        connection.sendall(json_frame(msgspec.json.encode(request)))
        return read_until(connection)[:-1]


def render(answer: dict[str, Any]) -> list[RenderableType]:
    """An answer as blocks of text and tables."""
    if not answer["ok"]:
        return [Text(f"{answer['code']}: {answer['msg']}")]
    blocks: list[RenderableType] = []
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
            blocks.append(tables.table([name, "value"], rows))
    if "mode" in answer:
        account = answer["client"] or "the whole stack"
        canceled = f", {answer['canceled']} orders canceled" if answer.get("canceled") else ""
        blocks.append(Text(f"{account}: {answer['mode']}{canceled}"))
    return blocks or [Text("ok")]


def _ask_for_all(request: dict[str, Any], settings: Settings, timeout_s: float) -> bytes:
    """The answer to a request; short pages of orders are joined, up to the number asked for."""
    frame = ask(request, settings, timeout_s)
    if request.get("op") != "orders":
        return frame
    page = msgspec.json.decode(frame, type=_Page)
    if not (page.ok and page.more):
        return frame
    rows, wanted = page.orders, request.get("limit", Orders().limit)
    while page.ok and page.more and len(rows) < wanted:
        rest = {**request, "before": page.before, "limit": wanted - len(rows)}
        frame = ask(rest, settings, timeout_s)
        page = msgspec.json.decode(frame, type=_Page)
        rows += page.orders
    return msgspec.json.encode(msgspec.structs.replace(page, orders=rows)) if page.ok else frame


class _Page(msgspec.Struct, omit_defaults=True):
    """An answer to ``orders``; its rows stay as they were sent, digit for digit."""

    ok: bool
    orders: list[msgspec.Raw] = []
    more: bool | msgspec.UnsetType = msgspec.UNSET
    before: int | msgspec.UnsetType = msgspec.UNSET


def _table(columns: tuple[str, ...], rows: list[dict[str, Any]]) -> Table | Text:
    if not rows:
        return Text("none")
    return tables.table(columns, [[_cell(row[name]) for name in columns] for row in rows])


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {inner}" for key, inner in value.items()) or "-"
    return "-" if value is None else str(value)


def run(
    name: str,
    as_json: bool,
    host: str | None,
    port: int | None,
    timeout_s: float,
    **parameters: Any,
) -> int:
    """Exit code 0: done, 1: refused or nobody answers, 2: wrong usage or settings."""
    if name == "send" and parameters["price"] is None and parameters["type"] != "MARKET":
        raise click.UsageError("missing PRICE: give one, or --type MARKET")
    settings = settings_or_exit("orders")
    try:
        settings = target(settings, host, port)
        request = request_of(name, parameters)
        frame = _ask_for_all(request, settings, timeout_s)
        # Keep money as text, exact to the last digit.
        answer = json.loads(frame, parse_float=str)
    except SettingsError as error:
        print(f"orders: {error}", file=sys.stderr)
        return EXIT_SETTINGS
    except OSError as error:
        address = f"{settings.order_manager_host}:{settings.order_port}"
        hint = "" if settings.order_tls_ca_file else "; if it speaks TLS, set ORDER_TLS_CA_FILE"
        if not isinstance(error, ConnectionError) or "token" in str(error):
            hint = ""
        hint = if_refused(error, "ORDER_PORT") or hint
        print(
            f"orders: no answer from the order manager on {address}: {error}{hint}", file=sys.stderr
        )
        return 1
    if as_json:
        print(frame.decode())
    else:
        tables.show(*render(answer), file=sys.stdout if answer["ok"] else sys.stderr)
    return 0 if answer["ok"] else 1


command = click.Group(
    "orders",
    commands=[
        click.Command(
            name, help=text, params=[*own, *COMMON_OPTIONS], callback=functools.partial(run, name)
        )
        for name, (text, own) in SUBCOMMANDS.items()
    ],
)
