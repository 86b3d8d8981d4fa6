"""TLS for sockets that are used as plain ones: a thread encrypts and decrypts between the two.

The owner of a connection keeps a plain stream socket (one end of a pair) and uses it as if it were
the TCP connection: it reads, sends, shuts down and closes it, and is held back when the peer does
not read.  The thread owns the TCP connection.  So no handshake blocks the owner's loop, and its
code for plain connections serves encrypted ones unchanged.
"""

import contextlib
import os
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from app.runtime.log import get_logger

log = get_logger()

DESCRIPTORS_EACH: Final = 3
"""Of an encrypted connection: its own, and the plain pair."""
CHUNK_BYTES: Final = 64 * 1024
CHUNKS_MAX: Final = 16
"""Of one connection and direction, before the others get their turn."""
FLUSH_S: Final = 1.0
"""Time to send the rest after the owner has closed its end."""
CLOSE_S: Final = 0.3
CHECK_S: Final = 0.25

_IN: Final = select.EPOLLIN
_OUT: Final = select.EPOLLOUT
_GONE: Final = select.EPOLLHUP | select.EPOLLERR


class Handshake(NamedTuple):
    """The end of a handshake; ``plain``: as :meth:`TlsRelay.adopt` returned it."""

    plain: socket.socket
    problem: Exception | None


class _Pair:
    """A TCP connection (outer), its cipher, and the thread's end of the plain pair (inner)."""

    __slots__ = (
        "close_sent", "ends_s", "fds", "from_peer", "inner", "inner_ended", "inner_gone", "masks",
        "outer", "outer_ended", "plain", "ready", "tls", "to_inner", "to_outer", "to_peer",
    )  # fmt: skip

    def __init__(
        self,
        outer: socket.socket,
        inner: socket.socket,
        plain: socket.socket,
        context: ssl.SSLContext,
        server_name: str | None,
    ) -> None:
        self.outer, self.inner, self.plain = outer, inner, plain
        # The cipher works on memory, so that it never waits for a socket in mid-record.
        self.from_peer, self.to_peer = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self.from_peer,
            self.to_peer,
            server_side=server_name is None,
            server_hostname=server_name,
        )
        self.fds = (outer.fileno(), inner.fileno())
        self.masks = [0, 0]
        # What a full socket has left: plain bytes for the owner, encrypted ones for the peer.
        self.to_inner = self.to_outer = memoryview(b"")
        # A side has ended when it will send nothing more; the inner one is gone when it is closed.
        self.ready = self.close_sent = False
        self.inner_ended = self.outer_ended = self.inner_gone = False
        # CLOCK_MONOTONIC: when to give up on a connection that its owner has closed.
        self.ends_s = 0.0

    def receive(self) -> bool:
        """Give the cipher what the peer has sent; False if that is nothing now."""
        try:
            data = self.outer.recv(CHUNK_BYTES)
        except BlockingIOError:
            return False
        if data:
            self.from_peer.write(data)
        else:
            self.outer_ended = True
        return bool(data)

    def flush(self) -> bool:
        """Send what the cipher has made; whether all of it is sent."""
        while True:
            if not self.to_outer:
                if not self.to_peer.pending:
                    return True
                self.to_outer = memoryview(self.to_peer.read())
            try:
                self.to_outer = self.to_outer[self.outer.send(self.to_outer) :]
            except BlockingIOError:
                return False


class TlsRelay:
    """One thread for any number of connections; it ends with :meth:`close`.

    ``event_descriptor`` is readable when :meth:`take_handshakes` has something to tell.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        flags = os.EFD_NONBLOCK | os.EFD_CLOEXEC
        self._wake, self.event_descriptor = os.eventfd(0, flags), os.eventfd(0, flags)
        self._epoll.register(self._wake, _IN)
        self._new: deque[_Pair] = deque()
        self._handshakes: deque[Handshake] = deque()
        self._by_fd: dict[int, _Pair] = {}
        self._ending: set[_Pair] = set()
        self._again: set[_Pair] = set()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="tls", daemon=True)
        self._thread.start()

    def adopt(
        self,
        connection: socket.socket,
        context: ssl.SSLContext,
        server_name: str | None = None,
        *,
        release: Callable[[], None] = lambda: None,
    ) -> socket.socket:
        """Take over a TCP connection; returns its plain end, which is usable at once.

        ``server_name``: the name that the server's certificate must have, on the client's side;
        without it this is the server's side.  ``release`` is called just before the thread gets the
        connection, when nothing can fail any more: the owner forgets the connection there.

        Raises:
            OSError: no descriptors are left, or no memory; the connection is the owner's still.
        """
        plain, inner = socket.socketpair()
        try:
            connection.setblocking(False)
            inner.setblocking(False)
            pair = _Pair(connection, inner, plain, context, server_name)
            release()
        except BaseException:
            plain.close()
            inner.close()
            raise
        self._new.append(pair)
        os.eventfd_write(self._wake, 1)
        return plain

    def take_handshakes(self) -> list[Handshake]:
        """The handshakes that have ended since the last call."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.event_descriptor)
        taken = []
        while self._handshakes:
            taken.append(self._handshakes.popleft())
        return taken

    def close(self) -> None:
        """Close every connection, and end the thread; what is not sent yet gets CLOSE_S."""
        if not self._closing:
            self._closing = True
            os.eventfd_write(self._wake, 1)
            self._thread.join()
            self._epoll.close()
            os.close(self._wake)
            os.close(self.event_descriptor)

    # ---- the thread

    def _run(self) -> None:
        until_s = 0.0
        while True:
            if self._closing:
                now_s = time.monotonic()
                until_s = until_s or now_s + CLOSE_S
                unsent = any(p.to_outer or not p.inner_ended for p in self._by_fd.values())
                if not (unsent or self._new) or now_s > until_s:
                    break
            again, self._again = self._again, set()
            timeout_s = CHECK_S if self._ending or self._closing else None
            for fd, events in self._epoll.poll(0.0 if again else timeout_s):
                if fd == self._wake:
                    os.eventfd_read(self._wake)
                elif (pair := self._by_fd.get(fd)) is not None:
                    again.discard(pair)
                    self._serve(pair, fd, events)
            for pair in again:
                self._serve(pair, -1, 0)
            self._take_new()  # last, as an event above may be of an older owner of a descriptor
            for pair in [each for each in self._ending if time.monotonic() > each.ends_s]:
                self._end(pair)
        for pair in set(self._by_fd.values()):
            self._end(pair)

    def _take_new(self) -> None:
        while self._new:
            pair = self._new.popleft()
            for fd in pair.fds:
                self._by_fd[fd] = pair
                self._epoll.register(fd, 0)
            self._serve(pair, -1, 0)

    def _serve(self, pair: _Pair, fd: int, events: int) -> None:
        problem: Exception | None = None
        try:
            if events & _GONE and fd == pair.fds[1] and not pair.inner_gone:
                self._owner_closed(pair)
            if pair.ready or self._shake_hands(pair):
                more_in, more_out = self._decrypt(pair), self._encrypt(pair)
                if more_in or more_out:
                    self._again.add(pair)
            if not (events & _GONE and fd == pair.fds[0]) and not self._is_over(pair):
                self._watch(pair)
                return
        except (OSError, ValueError) as error:
            problem = error
            with contextlib.suppress(OSError):
                pair.flush()  # the alert
        except Exception as error:
            log.exception("bug")
            problem = error
        self._end(pair, problem)

    def _owner_closed(self, pair: _Pair) -> None:
        """The rest is sent for a while; nobody reads what the peer sends."""
        pair.inner_gone = pair.outer_ended = True
        pair.to_inner = memoryview(b"")
        pair.ends_s = time.monotonic() + FLUSH_S
        self._ending.add(pair)
        self._epoll.unregister(pair.fds[1])

    @staticmethod
    def _is_over(pair: _Pair) -> bool:
        if not pair.ready:
            return pair.inner_gone or pair.outer_ended
        return pair.inner_gone and pair.close_sent and not pair.to_outer

    def _shake_hands(self, pair: _Pair) -> bool:
        while True:
            try:
                pair.tls.do_handshake()
            except ssl.SSLWantReadError:
                pair.flush()
                if not pair.receive():
                    return False
                continue
            pair.ready = True
            self._tell(pair, None)
            return True

    def _tell(self, pair: _Pair, problem: Exception | None) -> None:
        self._handshakes.append(Handshake(pair.plain, problem))
        os.eventfd_write(self.event_descriptor, 1)

    def _decrypt(self, pair: _Pair) -> bool:
        """From the peer to the owner; returns whether there may be more at once."""
        for _ in range(CHUNKS_MAX):
            if pair.to_inner:
                try:
                    pair.to_inner = pair.to_inner[pair.inner.send(pair.to_inner) :]
                except BlockingIOError:
                    return False
                except OSError:  # the owner has closed its end
                    pair.outer_ended, pair.to_inner = True, memoryview(b"")
            if pair.to_inner:
                continue
            if pair.outer_ended:
                return False
            try:
                pair.to_inner = memoryview(pair.tls.read(CHUNK_BYTES))
                pair.outer_ended = not pair.to_inner
            except ssl.SSLWantReadError:
                if not pair.receive() and not pair.outer_ended:
                    return False
            if pair.outer_ended:
                with contextlib.suppress(OSError):
                    pair.inner.shutdown(socket.SHUT_WR)
        return True

    def _encrypt(self, pair: _Pair) -> bool:
        """From the owner to the peer; returns whether there may be more at once."""
        for _ in range(CHUNKS_MAX):
            if not pair.flush():
                return False
            if pair.inner_ended:
                self._say_goodbye(pair)
                return False
            try:
                data = memoryview(pair.inner.recv(CHUNK_BYTES))
            except BlockingIOError:
                return False
            pair.inner_ended = not data
            while data:
                data = data[pair.tls.write(data) :]
        return True

    @staticmethod
    def _say_goodbye(pair: _Pair) -> None:
        """The owner sends nothing more: the end of the stream for the peer.

        Not while something of the peer is unread, which would end the connection at once: Python
        looks for the peer's goodbye, too.
        """
        unread = pair.to_inner or pair.from_peer.pending
        if not pair.close_sent and (pair.outer_ended or not unread):
            pair.close_sent = True
            with contextlib.suppress(OSError, ValueError):
                pair.tls.unwrap()
            pair.flush()

    def _watch(self, pair: _Pair) -> None:
        outer = _IN if not pair.to_inner and not pair.outer_ended else 0
        outer |= _OUT if pair.to_outer else 0
        inner = _OUT if pair.to_inner else 0
        if pair.ready and not pair.to_outer and not pair.inner_ended:
            inner |= _IN
        if outer != pair.masks[0]:
            self._epoll.modify(pair.fds[0], outer)
        if inner != pair.masks[1] and not pair.inner_gone:
            self._epoll.modify(pair.fds[1], inner)
        pair.masks = [outer, inner]

    def _end(self, pair: _Pair, problem: Exception | None = None) -> None:
        if self._by_fd.pop(pair.fds[0], None) is None:
            return
        self._by_fd.pop(pair.fds[1], None)
        self._ending.discard(pair)
        self._again.discard(pair)
        if not pair.ready and not pair.inner_gone:
            closed = ConnectionAbortedError("the peer closed during the TLS handshake")
            self._tell(pair, problem or closed)
        pair.outer.close()
        pair.inner.close()
