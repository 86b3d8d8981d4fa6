"""What three healthy brokers answer, and texts of metrics that are made of it by the real code."""

import copy
import time
from typing import Any

from app.bus.figures import figures_text
from app.bus.monitor.brokers import Seen, figures

BROKERS = ("broker-1", "broker-2", "broker-3")
STREAMS = ("CONTROL", "MD_a", "OUT_a")


def _peers(but: str) -> list[dict[str, Any]]:
    return [{"name": each, "current": True, "active": 1} for each in BROKERS if each != but]


def _stream(name: str) -> dict[str, Any]:
    """As each broker answers; ``broker-1`` leads."""
    consumers = []
    if name == "CONTROL":
        consumers = [{"name": "shard-a", "num_pending": 0, "num_ack_pending": 0}]
    if name == "MD_a":
        consumers = [{"name": "x7Qp", "num_pending": 3, "num_ack_pending": 0}]
    cluster = {"leader": BROKERS[0], "replicas": _peers(BROKERS[0])}
    return {
        "name": name,
        "cluster": cluster,
        "config": {"num_replicas": 3},
        "state": {
            "messages": 10, "bytes": 5000, "last_seq": 10, "last_ts": "2026-11-26T22:50:30.2605519Z"
        },
        "consumer_detail": [
            {**each, "cluster": {"leader": BROKERS[0]}} for each in consumers
        ],
    }  # fmt: skip


class Brokers:
    """Answers that can be made worse: ``varz``, ``jsz`` and ``healthz`` by broker."""

    def __init__(self) -> None:
        self.connected = True
        self.varz: dict[str, Any] = {}
        self.jsz: dict[str, Any] = {}
        self.healthz: dict[str, Any] = {name: {"status": "ok"} for name in BROKERS}
        for name in BROKERS:
            self.varz[name] = {
                "version": "2.15.1",
                "start": "2026-11-26T22:50:22.768998307Z",
                "tls_cert_not_after": "2099-01-01T00:00:00Z",
                "connections": 2,
                "slow_consumers": 0,
                "mem": 20_000_000,
                "jetstream": {
                    "stats": {"storage": 15000},
                    "config": {"max_storage": 4_000_000_000},
                },
            }
            self.jsz[name] = {
                "meta_cluster": {"leader": BROKERS[0], "replicas": _peers(BROKERS[0])},
                "account_details": [{"stream_detail": [_stream(each) for each in STREAMS]}],
            }

    def stream(self, name: str, broker: str = BROKERS[0]) -> dict[str, Any]:
        """What a broker says of a stream."""
        details = self.jsz[broker]["account_details"][0]["stream_detail"]
        return next(each for each in details if each["name"] == name)

    def lose(self, name: str) -> None:
        """One that does not answer."""
        for answers in (self.varz, self.jsz, self.healthz):
            answers.pop(name, None)

    @property
    def seen(self) -> Seen:
        """A look at them."""
        answers = copy.deepcopy((self.varz, self.jsz, self.healthz))
        return Seen(self.connected, 3, *answers, frozenset(BROKERS), time.time())

    def text(self) -> bytes:
        """Their metrics."""
        return figures_text(figures(self.seen))
