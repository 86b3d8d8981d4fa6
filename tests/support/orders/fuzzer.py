"""Frames for the order port: almost valid, or invalid in many ways."""

import json
import random
from typing import Any

OPS = (
    "new",
    "cancel",
    "status",
    "positions",
    "orders",
    "limits",
    "reduce",
    "resume",
    "ping",
    "auth",
)
MEMBERS = (
    "side", "symbol", "qty", "price", "ts", "id", "client", "type", "tif", "op", "limit", "before",
    "after", "open", "kill", "reason", "token", "", "zz", "__class__",
)  # fmt: skip
NUMBERS = (
    "0", "-0", "-0.0", "1", "10", "-1", "1.5", "1e3", "1e308", "1e309", "1e-400", "-1e999", "NaN",
    "Infinity", "-Infinity", "9007199254740993", "9223372036854775807", "9223372036854775808",
    "18446744073709551616", "1" + "0" * 60, "1" * 5000, "0x10", "01", "1.", ".5", "+1", "1_000",
    "0.000000001", "0.0000000001", "9000000000", "9000000000.000001", "173.20000000000002",
)  # fmt: skip
STRINGS = (
    '"BUY"', '"SELL"', '"HOLD"', '"AAPL"', '"MSFT"', '"MARKET"', '"LIMIT"', '"IOC"', '"GTC"',
    '"DAY"', '""', '"\\u002a"', '"A\\u0000B"', '"\\ud800"', '"\\ud83d\\ude00"', '"a|b"', '"a,b"',
    '"\\n"', '"\\/"', '"\\x"', '"unfinished', "'single'", '"' + "x" * 70 + '"', '"\u00e9"',
    '"2025-10-01 09:30:00"', '"ping"', '"new"',
)  # fmt: skip
OTHER = (
    "null",
    "true",
    "false",
    "[]",
    "{}",
    '{"a":1}',
    "[1,2]",
    "nul",
    "",
    " ",
    "[" * 50,
    '{"a":' * 50,
)
JUNK = (
    b"\x00",
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"{",
    b"}",
    b'"',
    b"\\",
    b",",
    b":",
    b"\n",
    b"1",
)


class Fuzzer:
    """A seeded stream of frames, delimiter removed; none contains a ``*``."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._number = 0

    def frame(self) -> bytes:
        """The next frame."""
        rng = self._rng
        draw = rng.random()
        if draw < 0.35:
            made = self._valid()
        elif draw < 0.6:
            made = self._mutated(self._valid())
        elif draw < 0.95:
            made = self._members()
        elif draw < 0.99:
            made = bytes(rng.getrandbits(8) for _ in range(rng.randint(0, 60)))
        else:
            made = self._deep()
        return made.replace(b"*", b"?")

    def _valid(self) -> bytes:
        """A valid request."""
        rng = self._rng
        self._number += 1
        client = f"c{rng.randint(0, 9)}"
        if rng.random() < 0.2:
            op = rng.choice((*OPS[1:9], "resume", "resume"))
            request: dict[str, Any] = {"op": op, "client": client}
            if request["op"] in ("cancel", "status"):
                request["id"] = rng.randint(0, self._number)
            if request["op"] == "ping" or (request["op"] == "resume" and rng.random() < 0.7):
                # Without a client: also resumes the stack if a mutated frame has halted it.
                del request["client"]
        else:
            request = {
                "side": rng.choice(("BUY", "SELL")),
                "symbol": rng.choice(("AAPL", "MSFT", "NVDA")),
                "qty": rng.randint(1, 100),
                "price": round(rng.uniform(0.01, 900), 2),
                "id": rng.choice((self._number, rng.randint(0, self._number))),
                "client": client,
            }
            if rng.random() < 0.1:
                # IOC, so that none rests.
                request |= {"type": "LIMIT", "tif": "IOC"}
        return json.dumps(request).encode()

    def _mutated(self, frame: bytes) -> bytes:
        """A valid request with a few bytes changed."""
        rng = self._rng
        made = bytearray(frame)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(made) + 1)
            draw = rng.random()
            if draw < 0.3 and made:
                del made[at : at + rng.randint(1, 4)]
            elif draw < 0.6:
                made[at:at] = rng.choice(JUNK)
            elif draw < 0.8 and at < len(made):
                made[at] ^= 1 << rng.randint(0, 7)
            else:
                cut = sorted((rng.randrange(len(made) + 1), at))
                made[at:at] = made[cut[0] : cut[1]]
        return bytes(made)

    def _members(self) -> bytes:
        """An object with known names and all kinds of values; some names occur twice."""
        rng = self._rng
        pairs = [(name, self._value()) for name in rng.choices(MEMBERS, k=rng.randint(0, 7))]
        if rng.random() < 0.7:
            usual = {"side": '"BUY"', "symbol": '"AAPL"', "qty": "1", "price": "2", "client": '"c"'}
            pairs += [(name, value) for name, value in usual.items() if rng.random() < 0.9]
        if rng.random() < 0.3:
            pairs.append(("op", f'"{rng.choice(OPS)}"'))
        rng.shuffle(pairs)
        text = "{" + ",".join(f'"{name}":{value}' for name, value in pairs) + "}"
        return text.encode("utf-8", "surrogatepass")

    def _value(self) -> str:
        rng = self._rng
        return rng.choice(rng.choice((NUMBERS, STRINGS, OTHER)))

    def _deep(self) -> bytes:
        """Nesting as deep as the longest frame allows."""
        rng = self._rng
        bracket = rng.choice((b"[", b'{"a":', b'{"op":', b'{"ts":['))
        depth = rng.choice((10, 1000, 60_000 // len(bracket)))
        close = rng.choice((b"", b"]" * depth, b"}" * depth))
        return (rng.choice((b"", b'{"ts":', b'{"zz":')) + bracket * depth + b"1" + close)[:65536]
