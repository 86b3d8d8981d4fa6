"""The requests of the order port, and :class:`Reject`, the negative answer."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

import msgspec

from app.model.orders import OrderRequest
from app.model.reject_codes import RejectCode

DEFAULT_CLIENT: Final = "default"
MAX_CLIENT_ID: Final = (1 << 53) - 1
"""Largest id a client may choose: every JSON reader holds it exactly."""
MAX_ORDER_ID: Final = (1 << 63) - 1
PAGE_ROWS_MAX: Final = 200
"""Of an answer to ``orders`` or ``positions``."""


def is_reserved(client: str, strategy_client: str) -> bool:
    """Whether only the stack's own processes may send orders under this name.

    These are STRATEGY_CLIENT and all that begins with it and ``-`` or ``@``: a strategy's name in
    its orders is ``strategy@1a188a0c``, that of the second ``strategy-2@1a188a0c``.
    """
    if not client.startswith(strategy_client):
        return False
    rest = client[len(strategy_client) :]
    return not rest or rest[0] in "-@"


class Reject(NamedTuple):
    """The reason to answer ``ok: false``; ``details`` are further members of the answer."""

    code: RejectCode
    msg: str
    details: Mapping[str, Any] = MappingProxyType({})
    retryable: bool = False


class Cancel(msgspec.Struct, tag_field="op", tag="cancel", forbid_unknown_fields=True):
    id: int
    client: str = DEFAULT_CLIENT


class Status(msgspec.Struct, tag_field="op", tag="status", forbid_unknown_fields=True):
    id: int
    client: str = DEFAULT_CLIENT


class Positions(msgspec.Struct, tag_field="op", tag="positions", forbid_unknown_fields=True):
    client: str | None = None
    symbol: str | None = None
    after: str = ""
    limit: int = 100


class Orders(msgspec.Struct, tag_field="op", tag="orders", forbid_unknown_fields=True):
    client: str | None = None
    open: bool = True
    before: int = MAX_ORDER_ID
    limit: int = 50


class Limits(msgspec.Struct, tag_field="op", tag="limits", forbid_unknown_fields=True):
    client: str | None = None


Restricted = Literal["reduce", "halted", "killed"]
"""Trading modes from the least to the most strict; ``active`` is before them."""


class Halt(msgspec.Struct, tag_field="op", tag="halt", forbid_unknown_fields=True):
    """Reject new orders; ``kill`` also cancels all open orders and pulls the kill switch.

    ``unless``, also of the other two: in this mode or a stricter one, nothing is changed.
    """

    client: str | None = None
    kill: bool = False
    reason: str = ""
    unless: Restricted | None = None


class Resume(msgspec.Struct, tag_field="op", tag="resume", forbid_unknown_fields=True):
    client: str | None = None
    reason: str = ""
    unless: Restricted | None = None


class Reduce(msgspec.Struct, tag_field="op", tag="reduce", forbid_unknown_fields=True):
    client: str | None = None
    reason: str = ""
    unless: Restricted | None = None


class BusAlive(msgspec.Struct, tag_field="op", tag="bus_alive", forbid_unknown_fields=True):
    """The bus takes what the store has: from the publisher of a shard, once a second or so."""


class Marks(msgspec.Struct, tag_field="op", tag="marks", forbid_unknown_fields=True):
    """Prices at which the checks value what the sender's later orders on this connection hold.

    Sent by the stack's own strategies before an order whose tick has other prices than the last
    one's; has no answer, unless it is refused.
    """

    proof: str
    marks: dict[str, float]


class Ping(msgspec.Struct, tag_field="op", tag="ping", forbid_unknown_fields=True):
    pass


class Auth(msgspec.Struct, tag_field="op", tag="auth", forbid_unknown_fields=True):
    token: str


class Hello(msgspec.Struct, tag_field="op", tag="hello", forbid_unknown_fields=True):
    """What a connection asks for.

    ``cancel_on_disconnect``: when the connection ends, the open orders of the clients under whose
    names it has sent orders since are canceled.
    """

    cancel_on_disconnect: bool = False


Command = (
    Cancel
    | Status
    | Positions
    | Orders
    | Limits
    | Halt
    | Resume
    | Reduce
    | BusAlive
    | Marks
    | Ping
    | Auth
    | Hello
)

Request = OrderRequest | Command | Reject
"""A decoded frame; an invalid frame decodes to the reject that answers it."""

COMMANDS: Final = (
    Cancel,
    Status,
    Positions,
    Orders,
    Limits,
    Halt,
    Resume,
    Reduce,
    BusAlive,
    Marks,
    Ping,
    Auth,
    Hello,
)
