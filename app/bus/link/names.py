"""Subjects, streams and headers of the bus."""

import re
from typing import Final

SHARD_NAME: Final = re.compile(r"[a-z0-9-]{1,32}")

CONTROL_STREAM: Final = "CONTROL"
CONTROL_CONSUMER: Final = "shard-"
"""Before a shard's name: its place in that stream."""
MAP_STREAM: Final = "MAP"
MAP_SUBJECT: Final = "map"

MSG_ID: Final = "Nats-Msg-Id"
"""The broker drops a message whose id it has seen shortly before: a help, no promise."""
EXPECTED_LAST_SEQ: Final = "Nats-Expected-Last-Sequence"
"""The broker refuses a message unless the stream ends with this sequence number: the fence."""
EXPECTED_STREAM: Final = "Nats-Expected-Stream"

SEQ_FIRST: Final = "Seq-First"
"""Of ``md``: sequence number of the first tick in the message."""
SEQ_COUNT: Final = "Seq-Count"
RUN: Final = "Run"
MAP_VERSION: Final = "Map-Version"

MARKS: Final = "Marks"
"""Of ``orders`` and ``fills``: what the stream has up to and with this message."""
DIGESTS: Final = "Digests"
"""Of the same: of the rows that ``Marks`` names, so that a store with other rows is noticed."""


def check_shard(shard: str) -> str:
    """The name of a shard as it is.

    Raises:
        ValueError: it is none.
    """
    if not SHARD_NAME.fullmatch(shard):
        raise ValueError(f"SHARD={shard}: must be 1 to 32 of a-z 0-9 -")
    return shard


def md_subject(shard: str) -> str:
    """Ticks of a shard, in the order of its run."""
    return f"md.{shard}"


def orders_subject(shard: str) -> str:
    """Orders that a shard has acknowledged, and what happened to them later."""
    return f"orders.{shard}"


def fills_subject(shard: str) -> str:
    """Executions of a shard."""
    return f"fills.{shard}"


def control_subject(shard: str) -> str:
    """What a shard is asked for: reduce, halt, resume."""
    return f"control.{shard}"


def heartbeat_subject(shard: str) -> str:
    """That a shard's publisher lives, and how far its stream is: of no stream, nobody keeps it."""
    return f"beats.{shard}"


def news_subject(shard: str) -> str:
    """That ``MD_<shard>`` has a new message: of no stream, and it may be lost."""
    return f"news.{shard}"


def md_stream(shard: str) -> str:
    """The stream of :func:`md_subject`."""
    return f"MD_{shard}"


def out_stream(shard: str) -> str:
    """The stream of :func:`orders_subject` and :func:`fills_subject`: together, in one order."""
    return f"OUT_{shard}"
