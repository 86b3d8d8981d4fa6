"""What the brokers answer about themselves (NATS's ``/varz``, ``/jsz``, ``/healthz``), as figures.

Each broker answers for itself, so what one says of a stream counts only where it leads that
stream; of brokers that do not answer, the others know the names.
"""

import contextlib
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from app.bus.figures import Figure, many, one
from app.bus.link import names

PREFIX: Final = "trading_bus"

Answers = Mapping[str, Mapping[str, Any]]
"""Name of a broker -> its answer."""


OF_BROKER: Final[dict[str, tuple[str, Callable[[Mapping[str, Any]], float]]]] = {
    "broker_start_time_seconds": ("when it started, since 1970", lambda v: _time(v["start"])),
    "broker_connections": ("clients", lambda v: v["connections"]),
    "broker_slow_consumers_total": ("clients that were too slow", lambda v: v["slow_consumers"]),
    "broker_memory_bytes": ("resident memory", lambda v: v["mem"]),
    "broker_certificate_expires_seconds": (
        "end of its certificate, since 1970",
        lambda v: _time(v["tls_cert_not_after"]),
    ),
    "broker_store_bytes": (
        "what JetStream has stored",
        lambda v: v["jetstream"]["stats"]["storage"],
    ),
    "broker_store_max_bytes": (
        "its bound, BROKER_STORE_BYTES_MAX",
        lambda v: v["jetstream"]["config"]["max_storage"],
    ),
}
"""Of ``/varz``: metric -> what it is, and where."""


class Seen(NamedTuple):
    """One look at all brokers; ``expected``: how many BUS_URL names."""

    connected: bool
    expected: int
    varz: Answers
    jsz: Answers
    healthz: Answers
    known: frozenset[str]
    """Brokers of this cluster, whether they answer or not."""
    at_s: float
    """When, since 1970."""


def known_after(before: frozenset[str], jsz: Answers) -> frozenset[str]:
    """The brokers of the cluster: as its leader says, else those known before and who answers."""
    for name, answer in jsz.items():
        meta = answer.get("meta_cluster") or {}
        if meta.get("leader") == name:
            return frozenset((*jsz, *(peer["name"] for peer in meta.get("replicas") or ())))
    return before.union(jsz)


def figures(seen: Seen) -> Iterator[Figure]:
    """Everything."""
    yield one(f"{PREFIX}_connected", "whether the monitor has a connection", int(seen.connected))
    yield from _brokers(seen)
    if seen.jsz:
        leads = {
            name: int((answer.get("meta_cluster") or {}).get("leader") == name)
            for name, answer in seen.jsz.items()
        }
        text = "brokers that lead the cluster; 0: no majority"
        yield one(f"{PREFIX}_leaders", text, sum(leads.values()))
        yield from _streams(seen)


def _brokers(seen: Seen) -> Iterator[Figure]:
    up = {name: int(name in seen.varz) for name in sorted(seen.known)}
    yield one(f"{PREFIX}_brokers_expected", "brokers in BUS_URL", seen.expected)
    yield one(f"{PREFIX}_brokers", "brokers that answer", sum(up.values()))
    yield many(f"{PREFIX}_broker_up", "whether the broker answers", "broker", up)
    healthy = {name: int(each.get("status") == "ok") for name, each in seen.healthz.items()}
    yield many(f"{PREFIX}_broker_healthy", "whether /healthz is ok", "broker", healthy)
    for name, (text, take) in OF_BROKER.items():
        values = {}
        for broker, answer in sorted(seen.varz.items()):
            with contextlib.suppress(KeyError):  # another version, or without TLS
                values[broker] = take(answer)
        if values:
            yield many(f"{PREFIX}_{name}", text, "broker", values)
    versions: dict[tuple[tuple[str, str], ...], float] = {
        (("broker", broker), ("version", str(answer.get("version", "")))): 1.0
        for broker, answer in sorted(seen.varz.items())
    }
    yield Figure(f"{PREFIX}_broker_info", "its version", versions)


class _Stream(NamedTuple):
    """A stream, as its leader has it; without a leader, as the broker that has most of it."""

    has_leader: bool
    detail: Mapping[str, Any]

    def current(self, up: Collection[str]) -> int:
        """Copies that have everything, on brokers that are up: a leader learns late who is not."""
        if not self.has_leader:
            return 0
        replicas = (self.detail.get("cluster") or {}).get("replicas") or ()
        return 1 + sum(bool(each["current"]) and each["name"] in up for each in replicas)


def _leads(broker: str, detail: Mapping[str, Any]) -> bool:
    """Whether a broker leads what it answers about; without a leader, that member is missing."""
    cluster = detail.get("cluster")
    return cluster is None or cluster.get("leader") == broker


def _details(jsz: Answers) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each broker's answer about each stream."""
    for broker, answer in jsz.items():
        for account in answer.get("account_details") or ():
            for detail in account.get("stream_detail") or ():
                yield broker, detail


def _streams_of(jsz: Answers) -> dict[str, _Stream]:
    found: dict[str, _Stream] = {}
    for broker, detail in _details(jsz):
        leads = _leads(broker, detail)
        before = found.get(detail["name"])
        if leads or before is None or (not before.has_leader and _last(before.detail, detail)):
            found[detail["name"]] = _Stream(leads, detail)
    return dict(sorted(found.items()))


def _last(one_: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return int(one_["state"]["last_seq"]) < int(other["state"]["last_seq"])


def _streams(seen: Seen) -> Iterator[Figure]:
    streams = _streams_of(seen.jsz)
    label = "stream"
    leader = {name: int(each.has_leader) for name, each in streams.items()}
    yield many(f"{PREFIX}_stream_has_leader", "whether it takes messages", label, leader)
    current = {name: each.current(seen.jsz) for name, each in streams.items()}
    yield many(f"{PREFIX}_stream_copies", "copies that have everything", label, current)
    wanted = {n: (s.detail.get("config") or {}).get("num_replicas", 1) for n, s in streams.items()}
    yield many(f"{PREFIX}_stream_copies_expected", "BUS_REPLICAS", label, wanted)
    state = {name: each.detail["state"] for name, each in streams.items()}
    messages = {name: each["messages"] for name, each in state.items()}
    yield many(f"{PREFIX}_stream_messages", "messages stored", label, messages)
    size = {name: each["bytes"] for name, each in state.items()}
    yield many(f"{PREFIX}_stream_bytes", "bytes of each copy", label, size)
    bounds = {
        name: most
        for name, each in streams.items()
        if (most := (each.detail.get("config") or {}).get("max_bytes", -1)) > 0
        and each.detail["config"].get("discard") == "new"
    }
    if bounds:
        text = "bound of a stream that takes no more when it is full"
        yield many(f"{PREFIX}_stream_max_bytes", text, label, bounds)
    age = {
        name: max(0.0, seen.at_s - _time(each["last_ts"]))
        for name, each in state.items()
        if each["messages"]
    }
    yield many(f"{PREFIX}_stream_last_message_age_seconds", "since the last message", label, age)
    yield from _consumers(seen.jsz)


def _consumers(jsz: Answers) -> Iterator[Figure]:
    """How far readers are.  Most have a random name, so of each stream only the furthest behind."""
    pending: dict[str, float] = {}
    controls: dict[str, float] = {}
    for broker, detail in _details(jsz):
        stream = detail["name"]
        for each in detail.get("consumer_detail") or ():
            if not _leads(broker, each):
                continue
            pending[stream] = max(pending.get(stream, 0), each["num_pending"])
            if stream == names.CONTROL_STREAM and each["name"].startswith(names.CONTROL_CONSUMER):
                shard = each["name"].removeprefix(names.CONTROL_CONSUMER)
                controls[shard] = each["num_pending"] + each["num_ack_pending"]
    text = "messages that the reader that is furthest behind has not got"
    yield many(f"{PREFIX}_stream_unread", text, "stream", dict(sorted(pending.items())))
    text = "controls that the shard has not taken"
    yield many(f"{PREFIX}_controls_waiting", text, "shard", dict(sorted(controls.items())))


def _time(text: str) -> float:
    """Seconds since 1970; NaN for what is no time."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return math.nan
