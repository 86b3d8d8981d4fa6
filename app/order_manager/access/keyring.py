"""The tokens that the order port knows; follows the file of ORDER_TOKEN_FILE while it runs."""

import hashlib
import hmac
import secrets
from functools import partial
from pathlib import Path

from app.config.settings import Settings
from app.model.requests import is_reserved
from app.order_manager.access.grants import (
    EVERYTHING,
    NOTHING,
    Grant,
    grant_of,
    without_token,
)
from app.runtime.lifecycle import FatalError
from app.runtime.log import get_logger
from app.runtime.net.credentials import WatchedTokens, read_credentials
from app.runtime.net.stack_token import keep_stack_token, stack_token_path

log = get_logger()


class Keyring:
    """Tokens, and what each may do.

    Tokens are found by a hash under a key of this process, so the time that it takes tells nothing
    about them.

    Raises:
        SettingsError: the file cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._path = settings.order_token_file
        self._own = settings.strategy_client
        self._settings = settings
        self._secret = secrets.token_bytes(32)
        self._watched = WatchedTokens(self._path, self._load)
        self._stack: dict[bytes, Grant] = {}
        self._stack_path = Path()
        self._stack_token = b""
        self.needs_token = bool(self._path)
        self.without_token = NOTHING if self._path else without_token(self._own)
        """What a connection may do before it has sent a token."""

    @classmethod
    def open_to_all(cls) -> "Keyring":
        """For an order manager without settings and without a folder: no token, no limits."""
        made = cls(Settings())
        made.without_token = EVERYTHING
        return made

    def make_stack_token(self, port: int) -> None:
        """Make the token of the stack's own processes, or find that of an earlier start.

        Raises:
            FatalError: the folder cannot be written.
        """
        self._stack_path = stack_token_path(self._settings, port)
        self._stack_token, _ = keep_stack_token(self._stack_path)
        self._stack = {self.key_of(self._stack_token): EVERYTHING}

    def key_of(self, token: bytes) -> bytes:
        """The hash under which a token is kept."""
        return hashlib.blake2b(token, key=self._secret, digest_size=32).digest()

    def is_of_run(self, key: bytes) -> bool:
        """Whether it is the token in the run's folder, which nobody can guess."""
        return any(hmac.compare_digest(known, key) for known in self._stack)

    def find(self, key: bytes) -> Grant | None:
        """What a token may do now; None if there is no such token (any more)."""
        for keys in (self._stack, self._watched.tokens):
            for known, grant in keys.items():
                if hmac.compare_digest(known, key):
                    return grant
        return None

    def _load(self) -> dict[bytes, Grant]:
        reserved = partial(is_reserved, strategy_client=self._own)
        found = read_credentials(self._path, reserved)
        return {self.key_of(each.token): grant_of(each, self._own) for each in found}

    def look(self, now_s: float) -> bool:
        """Whether the file has been loaded anew; call it a few times a second."""
        if self._watched.is_due(now_s):
            self._restore_stack_token()
        return self._watched.look(now_s)

    def _restore_stack_token(self) -> None:
        """A file that was removed or changed is written again; the stack needs it to reconnect."""
        if not self._stack:
            return
        try:
            found, made = keep_stack_token(self._stack_path, self._stack_token)
            if found != self._stack_token:
                self._stack_path.unlink(missing_ok=True)
                _, made = keep_stack_token(self._stack_path, self._stack_token)
        except (FatalError, OSError):
            return  # A full volume, for example: at the next look.
        if made:
            log.warning("stack_token_restored", path=str(self._stack_path))
