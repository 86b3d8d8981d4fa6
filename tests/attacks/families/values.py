"""What an order says: numbers, symbols, names, ids, times, prices."""

import re

from tests.attacks.model import Attacker, Family, order, priced, raw

VALUES = Family("Order port: numbers, symbols and fields", "whole")
NAMES = Family("Order port: names, ids and times", "whole")


@VALUES.attack("NaN and `Infinity`, 200 a second", "BAD_JSON", "request_refused")
def not_a_number(attacker: Attacker) -> None:
    words = ("NaN", "Infinity", "-Infinity")
    attacker.repeat(200, *(raw(**{member: w}) for w in words for member in ("price", "qty", "ts")))


@VALUES.attack("1e400, and numbers of 400 and 5,000 digits, 200 a second", "BAD_FIELD",
               "request_refused")  # fmt: skip
def beyond_a_float(attacker: Attacker) -> None:
    huge = ("1e400", "-1e400", "1" + "0" * 400, "1" * 5000)
    attacker.repeat(200, *(raw(**{m: n}) for n in huge for m in ("price", "qty", "id", "ts")))


@VALUES.attack("zero, -0 and negative quantities and prices, 200 a second", "BAD_FIELD",
               "request_refused")  # fmt: skip
def not_positive(attacker: Attacker) -> None:
    numbers = ("0", "-0", "-1", "-1000000", "-9223372036854775808")
    attacker.repeat(200, *(raw(**{m: n}) for n in numbers for m in ("price", "qty")))


@VALUES.attack("2^63 and 2^64 as quantity, price and id, 200 a second", "BAD_FIELD",
               "request_refused", small=True)  # fmt: skip
def beyond_64_bits(attacker: Attacker) -> None:
    numbers = (2**63 - 1, 2**63, 2**64, 2**64 + 1)
    attacker.repeat(200, *(raw(**{m: str(n)}) for n in numbers for m in ("price", "qty", "id")))


@VALUES.attack("a quantity of 10^15 at 10^9 a share, 100 a second", "QTY_MAX", "order_denied")
def absurd_notional(attacker: Attacker) -> None:
    attacker.repeat(100, order(qty=10**15), order(qty=10**15, type="LIMIT", price=9 * 10**9))


@VALUES.attack("every key twice, 200 a second", "DUPLICATE_KEY", "request_refused")
def keys_twice(attacker: Attacker) -> None:
    twice = [b'{"' + key + b'":' + value + b"," + raw()[1:] for key, value in {
        b"side": b'"SELL"', b"symbol": b'"MSFT"', b"qty": b"1000", b"type": b'"LIMIT"'
    }.items()]  # fmt: skip
    attacker.repeat(200, *twice, b'{"op":"halt","op":"ping"}*')


@VALUES.attack("a wrong type for each field, 200 a second", "BAD_FIELD", "request_refused")
def wrong_types(attacker: Attacker) -> None:
    values = ("{}", "[]", "true", "[1]")
    fields = ("side", "symbol", "qty", "price", "ts", "id", "client", "type", "tif", "proof")
    attacker.repeat(200, *(raw(**{"price": "500", f: v}) for v in values for f in fields))


@VALUES.attack("missing, unknown and misspelled fields, 200 a second",
               "MISSING_FIELD, UNKNOWN_FIELD", "request_refused")  # fmt: skip
def wrong_fields(attacker: Attacker) -> None:
    fields = [order(**{name: None}) for name in ("side", "symbol", "qty", "type")]
    attacker.repeat(200, *fields, order(quantity=1), order(colour="red"), order(**{"*" * 300: 1}))


@VALUES.attack("unknown operations, 200 a second", "UNKNOWN_OP", "request_refused")
def unknown_op(attacker: Attacker) -> None:
    names = ("cancle", "shutdown", "__import__", "x" * 3000, "HALT", "")
    attacker.repeat(200, *(b'{"op":"%s"}*' % name.encode() for name in names))


@VALUES.attack(
    "symbols that are long, empty, a formula, or have control characters, 200 a second",
    "BAD_FIELD",
    "request_refused",
)
def absurd_symbols(attacker: Attacker) -> None:
    symbols = (
        "A" * 33,
        "A" * 60_000,
        "",
        "=1+1",
        "@SUM",
        "A B",
        "A\nB",
        "A\0",
        "\u202eAAPL",
        "A,B",
    )
    attacker.repeat(200, *(order(symbol=symbol) for symbol in symbols))


@VALUES.attack("made-up symbols without end, 100 a second", "UNKNOWN_SYMBOL", "order_denied")
def made_up_symbols(attacker: Attacker) -> None:
    with attacker.client() as client:
        for number in attacker.beats(100):
            attacker.ask(client, order(symbol=f"S{number}"))


@VALUES.attack("made-up symbols without end where none is known, 400 a second",
               "SYMBOLS_MAX, acknowledged", "order_denied", stage="bounded")  # fmt: skip
def symbols_without_a_market(attacker: Attacker) -> None:
    with attacker.client() as client:
        for number in attacker.beats(400):
            attacker.ask(client, order(symbol=f"S{number}", type=None, price=1))


@VALUES.attack("a price 100 times the market's, 100 a second", "PRICE_COLLAR", "request_refused")
def collar(attacker: Attacker) -> None:
    attacker.repeat(100, order(type="LIMIT", price=30_000), order(type="LIMIT", price=0.01))


@VALUES.attack("a price above 9,000,000,000, 100 a second", "BAD_FIELD", "request_refused")
def price_beyond_the_range(attacker: Attacker) -> None:
    prices = ("9000000000.000000001", "9223372036.854775808", "1e15", "9.3e18")
    attacker.repeat(100, *(raw(price=price) for price in prices))


# ---- Names, ids and times


@NAMES.attack("made-up client names without end, 200 a second", "CLIENTS_MAX", "request_refused",
              stage="bounded", small=True)  # fmt: skip
def made_up_clients(attacker: Attacker) -> None:
    with attacker.client() as client:
        for number in range(60):
            client.ask(priced(client=f"{attacker.address}-{number}", symbol="B"))
        for number in attacker.beats(200):
            attacker.ask(client, priced(client=f"{attacker.address}-more-{number}", symbol="B"))


LOOKS_LIKE_A_LINE = 'x" 2026-01-01T00:00:00.000000Z ERROR order_manager fatal error="gone"'


@NAMES.attack("client names that look like lines of the log, 100 a second",
              "BAD_FIELD, acknowledged, quoted in the log", "request_refused")  # fmt: skip
def log_lines(attacker: Attacker) -> None:
    names = ("a\n2026-01-01T00:00:00.0Z ERROR main fatal", "a id=1 status=Filled", "\x1b[2J")
    begin = len(attacker.stage.log())
    attacker.repeat(100, *(order(client=n) for n in (*names, LOOKS_LIKE_A_LINE[:64])))
    text = attacker.stage.log()[begin:]
    assert "\x1b" not in text
    lines = [line for line in text.splitlines() if "a id=1" in line]
    assert lines
    assert all('client="a id=1 status=Filled"' in line for line in lines), lines[0]
    assert not re.search(r"^2026-01-01", text, re.MULTILINE)
    attacker.see("quoted in the log")


@NAMES.attack("the ids of another client's orders, with other content, 100 a second",
              "DUPLICATE_ID", "request_refused")  # fmt: skip
def another_ones_ids(attacker: Attacker) -> None:
    attacker.repeat(100, *(order(client="trader", id=n, side="SELL", qty=900) for n in range(20)))


@NAMES.attack("the same order again and again, 200 a second", "acknowledged, position of one order")
def same_order(attacker: Attacker) -> None:
    own = {"client": "again"}
    attacker.repeat(200, order(id=1, **own))
    with attacker.client() as client:
        (position,) = client.ask({"op": "positions", **own})["positions"]
    if position["qty"] == 1:
        attacker.see("position of one order")


@NAMES.attack("ids of 2^53 and above, below 0, and no numbers, 200 a second", "BAD_FIELD",
              "request_refused")  # fmt: skip
def absurd_ids(attacker: Attacker) -> None:
    ids = (2**53, 2**62, -1, -(2**63), "1", 1.5, [1])
    attacker.repeat(200, *(order(id=each) for each in ids))


@NAMES.attack("ids far ahead, and then backwards, 200 a second", "acknowledged")
def ids_backwards(attacker: Attacker) -> None:
    with attacker.client() as client:
        for number in attacker.beats(200):
            attacker.ask(client, order(client="backwards", id=2**53 - 1 - number))


@NAMES.attack("an order that is held back, and 200 a second behind it",
              "BEHIND_HELD, PRICE_COLLAR", "request_refused")  # fmt: skip
def behind_a_held_one(attacker: Attacker) -> None:
    held = order(client="held", id=1, type="LIMIT", price=30_000)
    behind = [order(client="held", id=n) for n in range(2, 200)]
    attacker.repeat(200, held, *behind)


@NAMES.attack("times of 1970, 2262 and no time at all, 200 a second", "BAD_FIELD, acknowledged",
              "request_refused")  # fmt: skip
def absurd_times(attacker: Attacker) -> None:
    times = ("0", "-1e300", "9223372036", "9e18", '"2262-01-01 00:00:00"', '"=1+1"', "null")
    wrong = ("{}", '"' + "9" * 70 + '"', "1e999")
    attacker.repeat(200, *(raw(client='"times"', ts=each) for each in (*times, *wrong)))


@NAMES.attack("a forged `proof` of a strategy, with a price of its own choice, 100 a second",
              "BAD_FIELD, OTHER_BOOK", "request_refused")  # fmt: skip
def forged_proof(attacker: Attacker) -> None:
    with attacker.client() as client:
        for number in attacker.beats(100):
            proof = f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}"[: 16 if number % 5 else 3]
            attacker.ask(client, order(type=None, price=1, proof=proof))


@NAMES.attack("forged `marks`, 100 a second", "BAD_FIELD, OTHER_BOOK", "request_refused")
def forged_marks(attacker: Attacker) -> None:
    forged = [
        {"op": "marks", "proof": "0123456789abcdef", "marks": marks}
        for marks in ({"AAPL": 1}, {"AAPL": -1}, {"=A": 1}, {"AAPL": 1e300}, {})
    ]
    attacker.repeat(100, *forged)
