"""The file of tokens that ORDER_TOKEN_FILE names.

Either one bare token, which is the whole stack's, or one credential a line:

    TOKEN role=client client=alice,desk-*     # what follows the token, in any sequence
    TOKEN role=operator
    TOKEN role=stack

Blank lines, and lines that begin with ``#``, are skipped.  No message shows a token, nor a word
that may be one.
"""

import os
from collections.abc import Callable, Sized
from enum import StrEnum
from pathlib import Path
from typing import Final, Generic, NamedTuple, TypeVar

from app.config.settings import SettingsError
from app.model.wire.reject_reasons import MAX_CLIENT_BYTES
from app.runtime.log import get_logger
from app.runtime.readable import why_unreadable

log = get_logger()

Tokens = TypeVar("Tokens", bound=Sized)

LOOK_EVERY_S: Final = 0.5
"""A changed file is loaded at the second look that finds it unchanged since: nobody writes then."""

TOKEN_BYTES_MIN: Final = 16
FILE_BYTES_MAX: Final = 1 << 20
MAKE_ONE: Final = "make one with: openssl rand -hex 32"


class Role(StrEnum):
    """What a token may do; each may do what the one before it may, but for client names."""

    CLIENT = "client"
    """Orders, and queries, under its own client names."""
    OPERATOR = "operator"
    """Also halt, resume and reduce, see everybody, and cancel everybody's orders."""
    STACK = "stack"
    """Also orders under the strategies' names."""


class Credential(NamedTuple):
    """A token, its role, and its client names; a name that ends with ``*`` stands for many."""

    token: bytes
    role: Role
    clients: tuple[str, ...] = ()
    line: int = 1


class _Wrong(Exception):
    """What is wrong with a line, and the fix."""


def read_credentials(
    path: str, reserved: Callable[[str], bool] = lambda _name: False
) -> list[Credential]:
    """The credentials in the file ``path``; none if ``path`` is empty.

    ``reserved``: whether a client name is one of the stack's own, which no line may give away.

    Raises:
        SettingsError: the file cannot be used; one line for each wrong line.
    """
    if not path:
        return []
    setting = f"ORDER_TOKEN_FILE={path}"
    try:
        with Path(path).open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise SettingsError(f"{setting}: {why_unreadable(path, error)}") from None
    if len(data) > FILE_BYTES_MAX:
        raise SettingsError(f"{setting}: over {FILE_BYTES_MAX} bytes; name a file of tokens")
    return parse_credentials(data, setting, reserved)


def parse_credentials(
    data: bytes, setting: str, reserved: Callable[[str], bool] = lambda _name: False
) -> list[Credential]:
    """As :func:`read_credentials`; ``setting`` is what an error begins with."""
    lines = [
        (number, line.strip())
        for number, line in enumerate(data.splitlines(), 1)
        if line.strip() and not line.strip().startswith(b"#")
    ]
    if not lines:
        raise SettingsError(f"{setting}: a token of 0 bytes, no token in the file; {MAKE_ONE}")
    # One line without name=value is a shared token, as it always was, spaces included.
    number, first = lines[0]
    if len(lines) == 1 and not any(b"=" in word for word in first.split()[1:]):
        try:
            return [Credential(_checked_token(first), Role.STACK, (), number)]
        except _Wrong as error:
            raise SettingsError(f"{setting}: {error}") from None
    found: list[Credential] = []
    problems: list[str] = []
    line_of: dict[bytes, int] = {}
    for number, line in lines:
        try:
            credential = _parse_line(line, number, reserved)
            if credential.token in line_of:
                raise _Wrong(f"has the token of line {line_of[credential.token]}; {MAKE_ONE}")
        except _Wrong as error:
            problems.append(f"{setting}, line {number}: {error}")
        else:
            line_of[credential.token] = number
            found.append(credential)
    if problems:
        raise SettingsError("\n".join(problems))
    return found


def _checked_token(token: bytes) -> bytes:
    if len(token) < TOKEN_BYTES_MIN:
        raise _Wrong(f"a token of {len(token)} bytes, at least {TOKEN_BYTES_MIN}; {MAKE_ONE}")
    try:
        printable = token.decode().isprintable()
    except UnicodeDecodeError:
        printable = False
    if not printable:
        raise _Wrong(f"the token is no printable text in UTF-8; {MAKE_ONE}")
    return token


def _parse_line(line: bytes, number: int, reserved: Callable[[str], bool]) -> Credential:
    token, *words = line.split()
    if token.startswith((b"role=", b"client=")):
        raise _Wrong("begins with role= or client=; the token is the first word")
    _checked_token(token)
    values: dict[str, str] = {}
    for at, word in enumerate(words, 2):
        name, equals, value = word.decode("utf-8", "replace").partition("=")
        if not equals or name not in ("role", "client"):
            raise _Wrong(
                f"word {at} (not shown, it may be secret) is neither role=... nor client=...; "
                "names are separated by commas without spaces, and a comment has its own line"
            )
        if name in values:
            raise _Wrong(f"{name}={value}: {name}= is there twice; write it once")
        values[name] = value
    if not values:
        raise _Wrong(
            "only a token, among other lines: add client=NAME, role=operator, or role=stack"
        )
    role = _role(values.get("role", "client"))
    clients = _clients(values["client"], reserved) if "client" in values else ()
    if role == Role.STACK and clients:
        raise _Wrong(f"client={values['client']}: role=stack has every name; leave out client=")
    if role == Role.CLIENT and not clients:
        raise _Wrong("role=client: whose? add client=NAME,NAME, or client=* for all")
    return Credential(token, role, clients, number)


def _role(text: str) -> Role:
    try:
        return Role(text)
    except ValueError:
        raise _Wrong(f"role={text[:40]}: no such role; one of {', '.join(Role)}") from None


def _clients(text: str, reserved: Callable[[str], bool]) -> tuple[str, ...]:
    names = tuple(text.split(","))
    for name in names:
        shown = f"client={text[:80]}: {name[:80]!r}"
        if not 1 <= len(name.encode()) <= MAX_CLIENT_BYTES or not name.isprintable():
            raise _Wrong(f"{shown} is no printable text of 1 to {MAX_CLIENT_BYTES} bytes")
        if "*" in name[:-1]:
            raise _Wrong(f"{shown}: a * may only be its end, as in desk-*")
        if reserved(name.removesuffix("*")):
            raise _Wrong(f"{shown} is a name of the strategies; only role=stack has them")
    return names


class WatchedTokens(Generic[Tokens]):
    """What a process keeps of a file of tokens; follows the file while the process runs.

    ``tokens`` is what ``load`` made of the file the last time that it was sound.

    Raises:
        SettingsError: the file cannot be used.
    """

    def __init__(self, path: str, load: Callable[[], Tokens]) -> None:
        self._path, self._load = path, load
        self._seen = self._loaded = _mark_of(path)
        self.tokens = load()
        self._next_look_s = 0.0

    def is_due(self, now_s: float) -> bool:
        """Whether the next :meth:`look` looks at the file."""
        return now_s >= self._next_look_s

    def look(self, now_s: float) -> bool:
        """Whether the file has been loaded anew; call it a few times a second."""
        if not self.is_due(now_s):
            return False
        self._next_look_s = now_s + LOOK_EVERY_S
        mark = _mark_of(self._path)
        settled, self._seen = mark == self._seen, mark
        if mark == self._loaded or not settled:
            return False
        self._loaded = mark
        try:
            self.tokens = self._load()
        except SettingsError as error:
            reason = "; ".join(str(error).splitlines())
            log.warning("credentials_refused", reason=reason[:1000], action="the old ones hold")
            return False
        log.info("credentials_loaded", path=self._path, tokens=len(self.tokens))
        return True


def _mark_of(path: str) -> tuple[int, ...]:
    """What a changed file changes; empty if there is no file."""
    if not path:
        return ()
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return (found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)
