"""All clients of the order port: accepted, watched, slowed down or dropped."""

import errno
import select
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Final

from app.config.settings import Settings
from app.model.repeat_window import OTHER
from app.model.token_bucket import TokenBucket
from app.model.wire.frames import MAX_FRAME_BYTES
from app.order_manager.access.keyring import Keyring
from app.order_manager.session import Session
from app.runtime.log import get_logger
from app.runtime.net.strangers import (
    STRANGER_FRAME_BYTES_MAX,
    STRANGERS_OF_HOST_MAX,
    TOKEN_S,
    Penalties,
    refusal_window,
)

log = get_logger()

ACCEPT_BURST: Final = 64
LINGER_S: Final = 1.0
HANDSHAKE_S: Final = 5.0
MAINTENANCE_S: Final = 0.25
REASON_CHARACTERS_MAX: Final = 300
IN: Final = select.EPOLLIN
OUT: Final = select.EPOLLOUT


def host_of(session: Session) -> str:
    """The address without the port."""
    return session.peer.rpartition(":")[0]


class Sessions:
    """Owns the client sockets and the epoll set they are in."""

    def __init__(
        self,
        epoll: select.epoll,
        listener: socket.socket,
        settings: Settings,
        tls: ssl.SSLContext | None,
        keyring: Keyring,
    ) -> None:
        self.dropped = 0
        """Sessions closed by us, for what the client sent or failed to read."""
        self._epoll = epoll
        self._listener = listener
        self._tls = tls
        self._keyring = keyring
        self.penalties = Penalties()
        self.left: set[str] = set()
        """Clients of ended sessions, whose open orders are to be canceled."""
        self._strangers: dict[str, dict[Session, None]] = {}
        """Host -> its sessions that have not sent the token yet, in order of arrival."""
        self._refused = refusal_window()
        """Of closed sessions, by event and host."""
        self._input_bytes = 0
        """At least the bytes that all sessions hold."""
        self._input_max = settings.order_input_bytes_max
        self._max = settings.order_connections_max
        self._in_flight_max = settings.order_frames_in_flight_max
        self._unsent_max = settings.order_unsent_bytes_max
        self._frames_per_s = settings.order_frames_per_s_max
        self._stall_ns = int(settings.client_stall_timeout_s * 1e9)
        self._idle_ns = int(settings.order_idle_timeout_s * 1e9)
        self.by_fileno: dict[int, Session] = {}
        """The session of each descriptor in the epoll set."""
        self._time_limited: set[Session] = set()
        """Sessions with a deadline: handshaking, lingering, or slow to read."""
        self._accepting = True
        self._pause_logged = False
        epoll.register(listener.fileno(), IN)

    def __len__(self) -> int:
        return len(self.by_fileno)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self.by_fileno.values()))

    def accept(self) -> None:
        """Accept new clients from the backlog, at most ACCEPT_BURST at a time."""
        for _ in range(ACCEPT_BURST):
            if len(self.by_fileno) >= self._max:
                self._pause(f"{self._max} connections are open")
                return
            try:
                sock, address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
                    self._pause(str(error))
                    return
                continue
            self._admit(sock, f"{address[0]}:{address[1]}")

    def _admit(self, sock: socket.socket, peer: str) -> None:
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        except OSError:
            # Peer already disconnected.
            sock.close()
            return
        session = Session(sock, peer)
        session.grant = self._keyring.without_token
        if self._keyring.needs_token:
            self._welcome(session)
        if self._frames_per_s:
            session.bucket = TokenBucket(self._frames_per_s)
        if session.handshaking:
            self._time_limited.add(session)
        self.by_fileno[session.fileno] = session
        session.mask = IN
        self._epoll.register(session.fileno, IN)

    def _welcome(self, session: Session) -> None:
        """A session may stay without the token for a while; of too many, the oldest gives way.

        Not the newest: that may be a process of the stack, whose token comes with the next packet.
        """
        session.authorized = False
        session.frame_bytes_max = STRANGER_FRAME_BYTES_MAX
        host = host_of(session)
        if len(self._strangers.get(host, ())) >= STRANGERS_OF_HOST_MAX:
            oldest = next(iter(self._strangers[host]))
            reason = f"over {STRANGERS_OF_HOST_MAX} connections of this host without the token"
            self.turn_away(oldest, reason)
        self._strangers.setdefault(host, {})[session] = None

    def turn_away(self, session: Session, reason: str) -> None:
        """Close at once: whoever asks too often gets no answer."""
        self.dropped += 1
        self._log_refusal("client_refused", session, reason)
        self.close(session)

    def authorize(self, session: Session) -> None:
        """The session has sent the token."""
        session.authorized = True
        session.frame_bytes_max = MAX_FRAME_BYTES
        self._forget_stranger(session)

    def _forget_stranger(self, session: Session) -> None:
        host = host_of(session)
        strangers = self._strangers.get(host)
        if strangers is not None:
            strangers.pop(session, None)
            if not strangers:
                del self._strangers[host]

    def note_input(self, size: int) -> None:
        """Bytes have arrived; if all sessions hold too many, those with most are closed."""
        self._input_bytes += size
        if self._input_bytes > self._input_max:
            self._limit_input()

    def _limit_input(self) -> None:
        self._input_bytes = sum(session.held_bytes for session in self)
        if self._input_bytes <= self._input_max:
            return
        reason = f"requests of all clients exceed ORDER_INPUT_BYTES_MAX={self._input_max}"
        for session in sorted(self, key=lambda session: session.held_bytes, reverse=True):
            if self._input_bytes <= self._input_max // 2:
                return
            self._input_bytes -= session.held_bytes
            self.refuse(session, "client_dropped", reason)
            self.close(session)

    def _log_refusal(self, event: str, session: Session, reason: str) -> None:
        """A line, unless there were some of this host; then their number later."""
        if self._refused.add((event, host_of(session)), (event, OTHER), time.monotonic()):
            log.warning(event, peer=session.peer, reason=reason[:REASON_CHARACTERS_MAX])

    def _flush_refusals(self, end: bool = False) -> None:
        """After the window: how many more there were, in one line for each kind and host."""
        for (event, host), more in self._refused.take_rest(time.monotonic(), end=end):
            log.warning("clients_refused", peer=host, what=event, more=more)

    def _pause(self, reason: str) -> None:
        """Leave new clients in the backlog until a session closes."""
        if self._accepting:
            self._accepting = False
            self._epoll.unregister(self._listener.fileno())
        if not self._pause_logged:
            self._pause_logged = True
            log.warning("accepting_paused", reason=reason)

    def stop_accepting(self) -> None:
        """Stop accepting for good."""
        self._max = 0
        if self._accepting:
            self._accepting = False
            self._epoll.unregister(self._listener.fileno())

    def watch(self, session: Session) -> None:
        """Set the epoll events: do not read from a peer with too much in flight or unsent."""
        mask = 0
        if not session.ended and (
            session.lingering
            or (
                len(session.frames) <= self._in_flight_max
                and len(session.unsent) <= self._unsent_max
            )
        ):
            mask = IN
        if session.unsent:
            mask |= OUT
            self._time_limited.add(session)
        if mask != session.mask:
            session.mask = mask
            self._epoll.modify(session.fileno, mask)

    def send(self, session: Session, data: bytes) -> None:
        """Send answers, now or when the peer can take them; close a session that is finished."""
        if session.fileno not in self.by_fileno or session.lingering:
            return
        try:
            done = session.send(data)
            if done and not session.frames:
                if session.closing:
                    session.shutdown_write()
                    self._time_limited.add(session)
                elif session.ended:
                    self.close(session)
                    return
        except OSError:
            self.close(session)
            return
        if not done or session.mask != IN:
            self.watch(session)

    def send_all(self, answers: list[tuple[Session, bytes]]) -> list[tuple[int, int]]:
        """Send each session its answers; returns when it was last read, and how many they are."""
        send = self.send
        if len(answers) == 1:
            send(*answers[0])
            return [(answers[0][0].last_ns, 1)]
        joined: dict[Session, list[bytes]] = {}
        for session, answer in answers:
            parts = joined.get(session)
            if parts is None:
                joined[session] = [answer]
            else:
                parts.append(answer)
        for session, parts in joined.items():
            send(session, b"".join(parts))
        return [(session.last_ns, len(parts)) for session, parts in joined.items()]

    def refuse(self, session: Session, event: str, reason: str) -> None:
        """Accept nothing more from this peer, and close once its answers are sent."""
        if not session.closing:
            session.closing = True
            session.forget_input()
            self.dropped += 1
            self._log_refusal(event, session, reason)

    def close(self, session: Session) -> None:
        """Close at once."""
        if self.by_fileno.pop(session.fileno, None) is None:
            return
        self._time_limited.discard(session)
        self._forget_stranger(session)
        if session.cancels:
            self.left |= session.cancels
        session.forget_input()
        self._epoll.unregister(session.fileno)
        session.sock.close()
        if not self._accepting and len(self.by_fileno) < self._max:
            self._accepting = True
            self._pause_logged = False
            self._epoll.register(self._listener.fileno(), IN)

    def maintain(self) -> None:
        """Drop sessions that do not read, do not finish a handshake, or are idle for too long."""
        now_ns = time.monotonic_ns()
        self._flush_refusals()
        for strangers in list(self._strangers.values()):
            for session in list(strangers):
                if now_ns - session.since_ns > TOKEN_S * 1e9 and not session.lingering:
                    self.refuse(session, "client_dropped", f"no token within {TOKEN_S:g} s")
                    self.close(session)
        for session in list(self._time_limited):
            waited_ns = now_ns - session.last_ns
            if session.lingering or session.handshaking:
                limit_s = LINGER_S if session.lingering else HANDSHAKE_S
                if waited_ns > limit_s * 1e9:
                    if session.handshaking:
                        self.refuse(session, "tls_failed", "no handshake in time")
                    self.close(session)
            elif not session.unsent:
                self._time_limited.discard(session)
            elif (
                len(session.unsent) > self._unsent_max
                and now_ns - session.stalled_ns > self._stall_ns
            ):
                self.refuse(
                    session,
                    "client_dropped",
                    f"read no answer for {self._stall_ns / 1e9:g} s, "
                    f"{len(session.unsent)} bytes unsent",
                )
                self.close(session)
        if self._idle_ns:
            for session in self:
                if now_ns - session.last_ns > self._idle_ns and not session.frames:
                    self.refuse(session, "client_dropped", "idle for too long")
                    self.close(session)

    def close_all(self) -> None:
        """Close every session and the listening socket."""
        self.stop_accepting()
        self._flush_refusals(end=True)
        for session in self:
            session.cancels = None  # Its client is still there, and comes back after a restart.
            self.close(session)
        self._listener.close()
