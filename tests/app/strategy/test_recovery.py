"""History and sentiment from a gateway that cuts connections and damages its data."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from app.config.settings import Settings
from app.model.tick import TICK_DTYPE
from app.model.wire.order_json import encode_order
from app.order_manager.store import store as order_store
from app.runtime.lifecycle import FatalError, Stop
from app.runtime.net.order_client import EncodedOrder, OrderClient
from app.strategy.recovery import History, last_order_id
from app.strategy.sentiment_feed import COMPLETE, SentimentFeed
from tests.support.fake_servers import Connection, FakeServer
from tests.support.orders.server import running

TICKS = 3000


def tick_text(seq: int) -> bytes:
    return f"2025-10-01 09:{seq // 60 % 60:02d}:{seq % 60:02d}*{'AB'[seq % 2]}*{seq + 1}*".encode()


class TestHistory:
    def replay(self, *handlers: Callable[[Connection], None], until: int) -> list[int]:
        with FakeServer(*handlers) as server:
            chosen = Settings(
                gateway_host="127.0.0.1",
                price_port=server.port,
                reconnect_delay_ms=1,
                reconnect_delay_ms_max=2,
            )
            history = History(chosen, ["A", "B"], "r1", Stop(), lambda: None)
            seqs: list[int] = []
            for batch in history.batches(until):
                assert batch["price"].tolist() == (batch["seq"] + 1).tolist()
                seqs += batch["seq"].tolist()
            return seqs

    @staticmethod
    def from_seq(connection: Connection, change: Callable[[bytes, int], bytes]) -> None:
        first = connection.resume()
        data = b"".join(tick_text(seq) for seq in range(first, TICKS))
        data = b"SYMBOLS|A,B*RUN|r1*SEQ|%d*" % first + change(data, first) + b"END|%d*" % TICKS
        connection.send(data, 1000)
        connection.finish()

    @pytest.mark.parametrize("until", [1, 1999, TICKS])
    def test_every_tick_once_in_order(self, until: int) -> None:
        seqs = self.replay(lambda c: self.from_seq(c, lambda data, _: data), until=until)
        assert seqs == list(range(until))

    def test_reading_continues_after_cut_connections(self) -> None:
        whole = [lambda c: self.from_seq(c, lambda data, _: data)]

        def cut(connection: Connection, size: int) -> None:
            first = connection.resume()
            data = b"".join(tick_text(seq) for seq in range(first, TICKS))
            connection.send(b"SYMBOLS|A,B*RUN|r1*SEQ|%d*" % first + data[:size])

        cuts = [lambda c, s=size: cut(c, s) for size in (0, 1, 26, 5000, 77, 30000)]
        assert self.replay(*whole, *cuts, *whole, until=TICKS) == list(range(TICKS))

    def test_damage_is_read_again_and_malformed_ticks_are_left_out(self) -> None:
        calls = 0

        def once(data: bytes, first: int) -> bytes:
            nonlocal calls
            calls += 1
            return data.replace(tick_text(700), b"x*y*z*") if calls == 2 else data

        assert self.replay(lambda c: self.from_seq(c, once), until=TICKS) == list(range(TICKS))

        def always(data: bytes, first: int) -> bytes:
            for seq in (700, 701, 1500):
                data = data.replace(tick_text(seq), b"x*y*z*")
            return data

        seqs = self.replay(lambda c: self.from_seq(c, always), until=TICKS)
        assert seqs == [seq for seq in range(TICKS) if seq not in (700, 701, 1500)]

    def test_the_history_of_another_run_is_fatal(self) -> None:
        def other(connection: Connection) -> None:
            connection.send(b"SYMBOLS|A,B*RUN|r2*SEQ|%d*" % connection.resume())
            connection.frame()

        with pytest.raises(FatalError, match="r2"):
            self.replay(other, until=5)


class TestSentimentFeed:
    EVENTS = 400
    SAME_TIME = 1
    """Ticks in each second."""

    def events(self) -> list[tuple[int, int, int]]:
        """(tick that may see it first, symbol, value), in event order."""
        rng = np.random.default_rng(5)
        ticks = np.sort(rng.integers(0, 3000, self.EVENTS))
        symbols = rng.integers(0, 2, self.EVENTS)
        return [(int(t), int(s), i % 101) for i, (t, s) in enumerate(zip(ticks, symbols))]  # noqa: B905

    def stream(self, first: int, every: int) -> bytes:
        """What the gateway sends from tick ``first`` on; tick n has second n // SAME_TIME."""
        events = self.events()
        frame = lambda e: f"2025-10-01 {self.clock(e[0])}*{'AB'[e[1]]}*{e[2]}*".encode()  # noqa: E731
        before = [e for e in events if first and e[0] < first]
        latest = {e[1]: e for e in before}
        data = b"SEQ|%d*" % first + b"".join(map(frame, latest.values()))
        rest = [e for e in events if not first or e[0] >= first]
        for start in range(first, TICKS, every):
            block = [e for e in rest if start <= e[0] < start + every]
            for event in block:
                data += (b"SEQ|%d*" % event[0] if event[0] % self.SAME_TIME else b"") + frame(event)
            data += b"SEQ|%d*" % min(start + every, TICKS)
        return data + b"END|%d*" % TICKS

    def clock(self, tick: int) -> str:
        second = tick // self.SAME_TIME
        return f"{9 + second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"

    def joined(self, *handlers: Callable[[Connection], None], batch: int) -> list[int]:
        base = 1_759_276_800 + 9 * 3600
        ticks = np.zeros(TICKS, TICK_DTYPE)
        ticks["seq"] = np.arange(TICKS)
        ticks["symbol"] = np.arange(TICKS) % 2
        ticks["event_ns"] = (base + np.arange(TICKS) // self.SAME_TIME) * 10**9
        with FakeServer(*handlers) as server:
            chosen = Settings(
                gateway_host="127.0.0.1",
                sentiment_port=server.port,
                reconnect_delay_ms=1,
                reconnect_delay_ms_max=2,
            )
            feed = SentimentFeed(chosen, ["A", "B"], Stop(), lambda: None)
            out = np.zeros(TICKS, np.int16)
            for start in range(0, TICKS, batch):
                end = min(start + batch, TICKS)
                feed.reach(end - 1)
                feed.join(ticks[start:end], out[start:end])
            feed.close()
        values: list[int] = out.tolist()
        return values

    def expected(self) -> list[int]:
        """The rule itself, computed for every tick from scratch."""
        events = self.events()
        answer = []
        for seq in range(TICKS):
            earlier = [e for e in events if e[1] == seq % 2 and e[0] <= seq]
            answer.append(earlier[-1][2] if earlier else -1)
        return answer

    def serves(self, every: int, size: int = 10**9, piece: int = 0) -> Callable[[Connection], None]:
        def handle(connection: Connection) -> None:
            connection.send(self.stream(connection.resume(), every)[:size], piece)
            if size == 10**9:
                connection.finish()

        return handle

    @pytest.mark.parametrize(("every", "batch"), [(1, 7), (100, 1), (512, 512), (3000, 64)])
    def test_the_join_follows_the_rule(self, every: int, batch: int) -> None:
        assert self.joined(self.serves(every), batch=batch) == self.expected()

    def test_the_join_follows_the_rule_in_small_pieces(self) -> None:
        assert self.joined(self.serves(50, piece=13), batch=100) == self.expected()

    def test_the_join_follows_the_rule_across_cut_connections(self) -> None:
        cuts = [self.serves(40, size) for size in (8, 50, 600, 1999, 6000, 7)]
        assert self.joined(*cuts, self.serves(64), batch=97) == self.expected()

    def test_by_arrival_the_last_sentiment_stays_after_the_end(self) -> None:
        """The gateway closes the connection after END; there is nothing to reconnect for."""

        def reconnecting() -> None:
            pytest.fail("reconnects after END")

        with FakeServer(self.serves(64)) as server:
            chosen = Settings(
                gateway_host="127.0.0.1",
                sentiment_port=server.port,
                sentiment_join="arrival",
                reconnect_delay_ms=1,
                reconnect_delay_ms_max=2,
            )
            feed = SentimentFeed(chosen, ["A", "B"], Stop(), reconnecting)
            ticks, out = np.zeros(2, TICK_DTYPE), np.zeros(2, np.int16)
            ticks["symbol"] = [0, 1]
            while feed.complete_before < COMPLETE:
                feed.take_arrived()
            time.sleep(0.05)  # let the server's end arrive
            for _ in range(3):
                feed.take_arrived()
                feed.join(ticks, out)
            feed.close()
        assert server.connections == 1
        latest = {symbol: value for _, symbol, value in self.events()}
        assert out.tolist() == [latest[0], latest[1]]

    def test_damaged_sentiment_is_requested_again(self) -> None:
        def garbage(connection: Connection) -> None:
            data = self.stream(connection.resume(), 64)
            half = data.index(b"*2025", 5000) + 1
            connection.send(data[:half] + b"2025-10-01 09:00:00*A*101*" + data[half:])
            connection.finish()

        assert self.joined(garbage, self.serves(64), batch=97) == self.expected()


class TestSentimentOfCrowdedSeconds(TestSentimentFeed):
    """Only the marks tell which tick of a second may see a sentiment first."""

    SAME_TIME = 50


def test_the_last_order_of_a_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first order of a run nothing is asked that the order manager refuses.

    Later it is found behind any number of orders of others, which are searched in parts.
    """
    monkeypatch.setattr(order_store, "SCAN_ORDERS", 3)
    monkeypatch.setattr(order_store, "FEW_ORDERS", 1)
    with running(tmp_path) as server:
        chosen = Settings(order_manager_host="127.0.0.1", order_port=server.port)
        client = OrderClient.from_settings(chosen)
        assert last_order_id(client, "me") is None
        assert server.count("requests_refused") == 0
        for name, ids in (("me", (3, 8)), ("other", range(9, 19))):
            client.submit(
                [EncodedOrder(i, encode_order(i, name, "BUY", "A", 1, 1.5, 0)) for i in ids]
            )
        assert last_order_id(client, "me") == 8
        client.close()
