"""What a connection may do: its role and its client names."""

from typing import Final

from app.model.requests import is_reserved
from app.runtime.net.credentials import Credential, Role


class Grant:
    """The rights of one token, or of clients without one.

    ``everything``: no request needs a check.  ``rules``: may halt, resume and reduce, see all, and
    cancel everybody's orders.
    """

    __slots__ = ("_exact", "_own", "_prefixes", "everything", "role", "rules", "shown")

    def __init__(self, role: Role, clients: tuple[str, ...], strategy_client: str) -> None:
        self.role = role
        self.everything = role == Role.STACK
        self.rules = role != Role.CLIENT
        self._own = strategy_client
        self._exact = frozenset(name for name in clients if not name.endswith("*"))
        self._prefixes = tuple(name[:-1] for name in clients if name.endswith("*"))
        self.shown = ",".join(clients)
        """The client names as in the file."""

    def has(self, client: str) -> bool:
        """Whether orders under this client name are accepted."""
        if self.everything:
            return True
        if client not in self._exact and not client.startswith(self._prefixes):
            return False
        return not is_reserved(client, self._own)

    def sees(self, client: str) -> bool:
        """Whether it may see and cancel the orders of this client."""
        return self.rules or self.has(client)

    @property
    def only(self) -> frozenset[str] | None:
        """All client names that it sees, if they are few; else None."""
        return None if self.rules or self._prefixes else self._exact


def grant_of(credential: Credential, strategy_client: str) -> Grant:
    """What a line of the file gives."""
    clients = credential.clients
    if credential.role == Role.OPERATOR and not clients:
        clients = ("*",)
    return Grant(credential.role, clients, strategy_client)


EVERYTHING: Final = Grant(Role.STACK, (), "")
NOTHING: Final = Grant(Role.CLIENT, (), "")


def without_token(strategy_client: str) -> Grant:
    """What a client of this host may do where no token is needed: all names but the strategies'."""
    return Grant(Role.CLIENT, ("*",), strategy_client)
