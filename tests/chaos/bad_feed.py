"""A feed that misbehaves on purpose: a proxy between a gateway port and its clients.

For this project's tests and for your own strategies::

    python -m tests.chaos.bad_feed --listen 127.0.0.2:9001 --to 127.0.0.1:9001 --reset-every 20000
    python -m tests.chaos.bad_feed --listen 127.0.0.2:9002 --to 127.0.0.1:9002
    GATEWAY_HOST=127.0.0.2 python -m app run

Only the bytes from the gateway are changed.  A resuming client (``RESUME|n*``) receives the same
ticks in the end whatever happens to the link.  Exception: a tick lost or duplicated in an otherwise
intact stream; the client rejects that stream when the gateway next states how many it has sent.
"""

import argparse
import contextlib
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Final, NamedTuple, Self

CHUNK_BYTES: Final = 65536
CONNECT_TIMEOUT_S: Final = 5.0
_RESET: Final = struct.pack("ii", 1, 0)
GARBAGE: Final = (
    b"garbage*",
    b"***",
    b"2025-99-99 99:99:99*AAPL*1*",
    b"2025-10-01 09:30:00*NOSUCH*1.0*",
    b"2025-10-01 09:30:00*AAPL*nan*",
    b"\x00\xff\xfe*",
    b"SEQ|*",
    b"END|x*",
    b"SYMBOLS|X*",
)


class Faults(NamedTuple):
    """The faults to inject; 0 is never.  Rates are per thousand frames or ticks."""

    piece_bytes: int = 0
    """Send pieces of this many bytes (1: every byte by itself)."""
    coalesce_bytes: int = 0
    """Collect this many bytes, or 0.1 s of data, before sending any."""
    reset_every_bytes: int = 0
    """Reset the connection after exactly this many bytes."""
    drop_every_bytes: int = 0
    """Close the connection after about this many bytes, mostly in the middle of a frame."""
    garbage_per_mille: float = 0.0
    """Insert an invalid frame between two frames."""
    double_per_mille: float = 0.0
    """Send a tick twice."""
    lose_per_mille: float = 0.0
    """Drop a tick."""
    delay_per_mille: float = 0.0
    """Delay a chunk ..."""
    delay_s: float = 0.05
    """... by this time."""


class Cut(Exception):
    """The connection is to be closed here."""


class Mangler:
    """Applies the faults to one connection's bytes; depends only on them and the seed."""

    def __init__(self, faults: Faults, rng: random.Random) -> None:
        self._faults, self._rng = faults, rng
        self._rest = b""
        self._tick: list[bytes] = []
        self._left = faults.reset_every_bytes
        if faults.drop_every_bytes:
            self._left = 1 + int(rng.expovariate(1 / faults.drop_every_bytes))

    @property
    def resets(self) -> bool:
        """Whether the connection is closed by a reset."""
        return bool(self._faults.reset_every_bytes)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The pieces to send instead of ``data``.

        Raises:
            Cut: after the last piece; close the connection.
        """
        *frames, self._rest = (self._rest + data).split(b"*")
        out = b"".join(map(self._frame, frames))
        if not self._touches_frames:
            # No fault works on frames: forward the unfinished one as well.
            out, self._rest = data, b""
        if self._faults.reset_every_bytes or self._faults.drop_every_bytes:
            if len(out) >= self._left:
                yield from self._pieces(out[: self._left])
                raise Cut
            self._left -= len(out)
        yield from self._pieces(out)

    @property
    def _touches_frames(self) -> bool:
        f = self._faults
        return bool(f.garbage_per_mille or f.double_per_mille or f.lose_per_mille)

    def _frame(self, frame: bytes) -> bytes:
        """What to send for one frame; the frames of a tick are sent together, after the third."""
        if b"|" in frame:
            return self._flush() + frame + b"*"
        self._tick.append(frame + b"*")
        if len(self._tick) < 3:
            return b""
        if self._happens(self._faults.lose_per_mille):
            self._tick.clear()
        if self._happens(self._faults.double_per_mille):
            self._tick *= 2
        return self._flush()

    def _flush(self) -> bytes:
        parts = self._tick
        self._tick = []
        if parts and self._happens(self._faults.garbage_per_mille):
            parts.insert(self._rng.randrange(len(parts) + 1), self._rng.choice(GARBAGE))
        return b"".join(parts)

    def _happens(self, per_mille: float) -> bool:
        return per_mille > 0 and self._rng.random() * 1000 < per_mille

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        size = self._faults.piece_bytes or max(len(data), 1)
        for start in range(0, len(data), size):
            if self._happens(self._faults.delay_per_mille):
                time.sleep(self._faults.delay_s)
            yield data[start : start + size]


class BadFeed:
    """The proxy, in threads of this process.  ``connections`` counts accepted connections."""

    def __init__(
        self,
        upstream: tuple[str, int],
        faults: Faults,
        seed: int = 0,
        listen: tuple[str, int] = ("127.0.0.1", 0),
    ) -> None:
        self._upstream, self.faults, self._seed = upstream, faults, seed
        self._listener = socket.create_server(listen, backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self._open: set[socket.socket] = set()
        self._frozen = threading.Event()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Forward nothing from now on but keep connections open: a link that is down."""
        self._frozen.set()

    def restore(self) -> None:
        """Close every connection made before or during the cut; new ones work."""
        self._frozen.clear()
        with self._lock:
            found, self._open = self._open, set()
        for each in found:
            _close(each)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            rng = random.Random(f"{self._seed}/{self.connections}")
            threading.Thread(target=self._serve, args=(client, rng), daemon=True).start()

    def _serve(self, client: socket.socket, rng: random.Random) -> None:
        try:
            server = socket.create_connection(self._upstream, CONNECT_TIMEOUT_S)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        for each in (client, server):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._open |= {client, server}
        threading.Thread(target=self._forward, args=(client, server), daemon=True).start()
        self._mangle(server, client, Mangler(self.faults, rng))
        with self._lock:
            self._open -= {client, server}

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        """Forward the client's bytes unchanged."""
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                while self._frozen.is_set():
                    time.sleep(0.01)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def _mangle(self, server: socket.socket, client: socket.socket, mangler: Mangler) -> None:
        try:
            while data := self._collect(server):
                for piece in mangler.feed(data):
                    while self._frozen.is_set():
                        time.sleep(0.01)
                    client.sendall(piece)
            client.shutdown(socket.SHUT_WR)
            client.recv(1)  # wait for the client to close: an early close could lose the last bytes
        except Cut:
            if mangler.resets:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        except OSError:
            pass
        _close(server)
        _close(client)

    def _collect(self, server: socket.socket) -> bytes:
        """The next bytes from the gateway; with ``coalesce_bytes``, collected up to that size."""
        data = server.recv(CHUNK_BYTES)
        until_s = time.monotonic() + 0.1
        while data and len(data) < self.faults.coalesce_bytes:
            server.settimeout(max(until_s - time.monotonic(), 0.001))
            try:
                more = server.recv(CHUNK_BYTES)
            except TimeoutError:
                break
            finally:
                server.settimeout(None)
            if not more:
                break
            data += more
        return data

    def close(self) -> None:
        """Close the listener and every connection."""
        _close(self._listener)
        self.restore()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _close(each: socket.socket) -> None:
    """Close, and wake any thread that waits for the socket."""
    with contextlib.suppress(OSError):
        resets = each.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, len(_RESET)) == _RESET
        # Always shut down reading: close() does not wake a thread that waits on the socket.
        each.shutdown(socket.SHUT_RD if resets else socket.SHUT_RDWR)
    each.close()


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def main(argv: list[str] | None = None) -> int:
    """Run until interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.bad_feed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--listen", type=_address, default=("127.0.0.1", 0), metavar="HOST:PORT")
    parser.add_argument("--to", type=_address, default=("127.0.0.1", 9001), metavar="HOST:PORT")
    parser.add_argument("--seed", type=int, default=0)
    defaults = Faults()
    for name, value in defaults._asdict().items():
        flag = f"--{name.removesuffix('_bytes').replace('_', '-')}"
        parser.add_argument(flag, dest=name, type=type(value), default=value)
    chosen = vars(parser.parse_args(argv))
    faults = Faults(**{name: chosen[name] for name in defaults._asdict()})
    with BadFeed(chosen["to"], faults, chosen["seed"], chosen["listen"]) as proxy:
        host = chosen["listen"][0]
        print(f"{host}:{proxy.port} -> {chosen['to']}, seed {chosen['seed']}, {faults}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
