"""Many requests: orders above the limits, cancels, queries, modes."""

import json

from tests.attacks.model import Attacker, Family, order, priced
from tests.attacks.stages import Whole

FLOODS = Family("Order port: floods, cancels, queries, kill switch", "whole")


@FLOODS.attack("1,500 orders at once, twice a second, against 1,000 a second of a client",
               "RATE_LIMIT, acknowledged", "request_refused", small=True)  # fmt: skip
def orders_above_the_rate(attacker: Attacker) -> None:
    with attacker.client() as client:
        for _ in attacker.beats(2):
            client.send(order(client="flood") * 1500)
            for _ in range(1500):
                attacker.note(client.read())


@FLOODS.attack("300 orders a second, within all limits", "acknowledged")
def orders_within_the_limits(attacker: Attacker) -> None:
    attacker.repeat(300, order(client="busy"), order(client="busy", side="SELL"))


@FLOODS.attack("1,500 frames at once, twice a second, against 1,000 a second of a connection",
               "FRAME_RATE, acknowledged", "request_refused", stage="bounded")  # fmt: skip
def frames_above_the_rate(attacker: Attacker) -> None:
    with attacker.client() as client:
        for _ in attacker.beats(2):
            client.send(priced(client="flood", symbol="B") * 1500)
            for _ in range(1500):
                attacker.note(client.read())


@FLOODS.attack("cancels of orders that do not exist, 300 a second", "BAD_FIELD, UNKNOWN_ORDER",
               "request_refused")  # fmt: skip
def cancels_of_nothing(attacker: Attacker) -> None:
    ids = (404, 2**53, 2**63 - 1, -1, 2**63)
    attacker.repeat(300, *({"op": "cancel", "id": each} for each in ids))


@FLOODS.attack("an order placed and canceled, 150 times a second", "acknowledged")
def placed_and_canceled(attacker: Attacker) -> None:
    with attacker.client() as client:
        for number in attacker.beats(150):
            limit = order(client="quotes", id=number, **_far_from(attacker))
            attacker.ask(client, limit)
            attacker.ask(client, {"op": "cancel", "client": "quotes", "id": number})


def _far_from(attacker: Attacker) -> dict[str, object]:
    """A resting order below the market and within the collar."""
    if not hasattr(attacker, "far"):
        with attacker.client() as client:
            answer = client.ask(order(client="looks"))
        attacker.far = round(answer["order"]["avg_price"] * 0.95, 2)  # type: ignore[attr-defined]
    return {"type": "LIMIT", "tif": "GTC", "price": attacker.far}  # type: ignore[attr-defined]


@FLOODS.attack("open orders without end, 100 a second", "OPEN_ORDERS, acknowledged", "order_denied")
def open_orders(attacker: Attacker) -> None:
    attacker.repeat(100, order(client=f"open-{attacker.address}", **_far_from(attacker)))


@FLOODS.attack("queries of orders, positions and limits, 300 a second", "acknowledged", small=True)
def queries(attacker: Attacker) -> None:
    attacker.repeat(
        300,
        {"op": "orders", "client": "trader", "open": False, "limit": 200},
        {"op": "positions"},
        {"op": "limits", "client": "trader"},
        {"op": "status", "client": "trader", "id": 1},
    )


@FLOODS.attack("8 connections with 200 queries each, then RST, 3 times a second", "acknowledged")
def queries_then_reset(attacker: Attacker) -> None:
    """The queries wait for their turn, and their connections end first."""
    page = b'{"op":"orders","client":"trader","open":false,"limit":50}*'
    for _ in attacker.beats(3):
        crowd = [attacker.client() for _ in range(8)]
        for client in crowd:
            client.send(page * 200)
        for client in crowd:
            attacker.note(client.read())
            client.reset()


@FLOODS.attack("pages at absurd places, and of absurd sizes, 200 a second",
               "BAD_FIELD, acknowledged", "request_refused")  # fmt: skip
def absurd_pages(attacker: Attacker) -> None:
    pages = [{"op": "orders", "client": "trader", "open": False, "before": n}
             for n in (0, 1, 2**62, -1, 2**63)]  # fmt: skip
    pages += [{"op": "orders", "limit": n} for n in (0, -1, 201, 2**63)]
    pages += [{"op": "positions", "after": text} for text in ("\n", "zzz\nA", "a\nb\nc", "\0")]
    attacker.repeat(200, *(json.dumps(page).encode() + b"*" for page in pages))


@FLOODS.attack("an operator halts, kills and resumes an account, 100 a second",
               "KILL_SWITCH, acknowledged", "order_denied")  # fmt: skip
def kill_switch(attacker: Attacker) -> None:
    assert isinstance(attacker.stage, Whole)
    own = {"client": "killer"}
    attacker.repeat(
        100,
        attacker.stage.operator(),
        order(**own),
        {"op": "halt", "kill": True, "reason": "x" * 200, **own},
        order(**own),
        {"op": "resume", **own},
    )


@FLOODS.attack("an operator's reason that looks like a line of the log, 100 a second",
               "BAD_FIELD, acknowledged, quoted in the log", "request_refused")  # fmt: skip
def reasons(attacker: Attacker) -> None:
    assert isinstance(attacker.stage, Whole)
    begin = len(attacker.stage.log())
    reasons = ("a\nERROR", 'all well" client=trader mode=KILLED', "x" * 201)
    halts = [{"op": "halt", "client": "halted", "reason": reason} for reason in reasons]
    attacker.repeat(
        100,
        attacker.stage.operator(),
        order(client="halted"),
        *halts,
        {"op": "resume", "client": "halted"},
    )
    lines = [line for line in attacker.stage.log()[begin:].splitlines() if "all well" in line]
    assert lines
    assert all(r'"all well\" client=trader mode=KILLED"' in line for line in lines), lines[0]
    attacker.see("quoted in the log")
