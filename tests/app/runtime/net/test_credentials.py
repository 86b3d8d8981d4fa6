"""The file of tokens: what it may hold, and what a wrong line is told."""

from functools import partial
from pathlib import Path

import pytest

from app.config.settings import SettingsError
from app.model.requests import is_reserved
from app.runtime.net.access import read_token
from app.runtime.net.credentials import (
    LOOK_EVERY_S,
    Credential,
    Role,
    WatchedTokens,
    parse_credentials,
    read_credentials,
)

A, B, C = ("a" * 32, "b" * 32, "c" * 32)
RESERVED = partial(is_reserved, strategy_client="strategy")


def parse(text: str) -> list[Credential]:
    return parse_credentials(text.encode(), "ORDER_TOKEN_FILE=f", RESERVED)


@pytest.mark.parametrize(
    ("text", "token"),
    [
        (A + "\n", A),
        (f"\n  {A}  \n\n", A),
        (f"# made on Monday\n{A}\n", A),
        ("correct horse battery staple", "correct horse battery staple"),
        ("c29tZSBiYXNlNjQgdG9rZW4=", "c29tZSBiYXNlNjQgdG9rZW4="),
    ],
)
def test_one_bare_token_is_the_whole_stacks(text: str, token: str) -> None:
    (found,) = parse(text)
    assert (found.token, found.role, found.clients) == (token.encode(), Role.STACK, ())


def test_a_line_binds_a_token_to_names_and_a_role() -> None:
    found = parse(
        f"# desk\n{A} role=client client=alice,desk-*\n\n{B}\tclient=bob\n{C} role=operator\n"
        f"{A}1 client=* role=operator\n{A}2 role=stack\n"
    )
    assert [(each.role, each.clients, each.line) for each in found] == [
        ("client", ("alice", "desk-*"), 2),
        ("client", ("bob",), 4),
        ("operator", (), 5),
        ("operator", ("*",), 6),
        ("stack", (), 7),
    ]
    assert [each.token.decode() for each in found] == [A, B, C, A + "1", A + "2"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("tooshort role=operator", "a token of 8 bytes, at least 16; make one with: openssl"),
        (f"{B} role=admin", "role=admin: no such role; one of client, operator, stack"),
        (f"{B} role=client", "role=client: whose? add client=NAME,NAME, or client=* for all"),
        (f"{B} role=stack client=al", "client=al: role=stack has every name; leave out client="),
        (f"{B} client=al client=bob", "client=bob: client= is there twice; write it once"),
        (f"{B} client=al, bob", "word 3 (not shown, it may be secret) is neither role=... nor"),
        (f"{B} client=", "client=: '' is no printable text of 1 to 64 bytes"),
        (f"{B} client=al,,bob", "'' is no printable text"),
        (f"{B} client={'x' * 65}", "is no printable text of 1 to 64 bytes"),
        (f"{B} client=a*b", "'a*b': a * may only be its end, as in desk-*"),
        (f"{B} client=strategy", "'strategy' is a name of the strategies; only role=stack has"),
        (f"{B} client=strategy-2@00ff", "is a name of the strategies"),
        (f"{B} client=strategy*", "is a name of the strategies"),
        (f"role=client client=al {B}", "begins with role= or client=; the token is the first"),
        (f"{B} rol=client", "word 2 (not shown"),
        (f"{A} client=zoe", "has the token of line 1; make one with: openssl"),
        (B, "only a token, among other lines: add client=NAME, role=operator, or role=stack"),
    ],
)
def test_a_wrong_line_is_named_with_its_value_and_the_fix_but_no_token(
    line: str, problem: str
) -> None:
    with pytest.raises(SettingsError) as raised:
        parse(f"{A} client=alice\n# a comment\n{line}\n{C} role=nobody\n")
    first, second = str(raised.value).splitlines()
    assert first.startswith("ORDER_TOKEN_FILE=f, line 3: ")
    assert problem in first
    assert second.startswith("ORDER_TOKEN_FILE=f, line 4: role=nobody: no such role")
    assert not any(token in str(raised.value) for token in (A, B, C, "tooshort"))


@pytest.mark.parametrize("data", [b"", b"\n \n", b"# only this\n", b"\xff\xfe" * 20, b"\0" * 32])
def test_a_file_without_a_usable_token_is_refused(data: bytes) -> None:
    with pytest.raises(SettingsError, match=r"ORDER_TOKEN_FILE=f: .*openssl rand -hex 32"):
        parse_credentials(data, "ORDER_TOKEN_FILE=f")


def test_a_file_of_a_gigabyte_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "data"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(SettingsError, match="over 1048576 bytes"):
        read_credentials(str(path))


@pytest.mark.parametrize(
    ("lines", "sent"),
    [
        ([f"{A} client=a", f"{B} role=operator", f"{C} role=stack"], C),
        ([f"{A} client=a", f"{B} role=operator"], B),
        ([f"{A} client=a", f"{B} client=b"], A),
    ],
)
def test_a_client_sends_the_token_that_may_do_most(
    tmp_path: Path, lines: list[str], sent: str
) -> None:
    path = tmp_path / "tokens"
    path.write_text("\n".join(lines))
    assert read_token(str(path)) == sent.encode()


@pytest.mark.parametrize(
    ("name", "reserved"),
    [
        ("strategy", True),
        ("strategy@1a188a0c", True),
        ("strategy-2", True),
        ("strategy-2@1a188a0c", True),
        ("strategy-", True),
        ("strategyx", False),
        ("my-strategy", False),
        ("Strategy", False),
        ("default", False),
        ("", False),
    ],
)
def test_reserved_names(name: str, reserved: bool) -> None:
    assert is_reserved(name, "strategy") is reserved


def test_a_watched_file_is_loaded_when_it_is_whole_and_sound(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(A)
    watched = WatchedTokens(str(path), lambda: [x.token for x in read_credentials(str(path))])
    looks = (n * LOOK_EVERY_S for n in range(100))
    assert not watched.look(next(looks))
    for text, loaded in (("short", A), (B, B), (f"{A} role=stack\n{C} role=admin", B), (C, C)):
        before = [x.decode() for x in watched.tokens]
        path.write_text(text)
        now_s = next(looks)
        assert not watched.look(now_s), "somebody may still be writing"
        assert not watched.look(now_s + LOOK_EVERY_S / 2), "too early for a look"
        assert watched.look(next(looks)) == ([loaded] != before)
        assert watched.tokens == [loaded.encode()]
    path.unlink()
    assert not watched.look(next(looks))
    assert not watched.look(next(looks))
    assert watched.tokens == [C.encode()]
