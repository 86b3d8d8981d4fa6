"""Users of the brokers, each with what it needs and no more: accounts.py FOLDER SHARD...

Writes FOLDER/accounts.conf, which the brokers include, and FOLDER/creds/USER, a file for BUS_CREDS.
Passwords that are there stay, so a shard can be added later.  Standard library only.
"""

import os
import re
import secrets
import sys
from pathlib import Path

API = "$JS.API"
SHARD_API = "BUS.API"
"""BUS_API of a shard's users: ``$JS.API`` is that of their own account, which has no JetStream."""


def stream_reader(stream: str) -> list[str]:
    """Read one stream, from any place, with consumers of one's own."""
    return [
        f"{API}.STREAM.INFO.{stream}",
        f"{API}.STREAM.MSG.GET.{stream}",
        f"{API}.DIRECT.GET.{stream}",
        f"{API}.DIRECT.GET.{stream}.>",
        *(f"{API}.CONSUMER.{what}.{stream}.>" for what in ("CREATE", "INFO", "MSG.NEXT", "DELETE")),
        f"$JS.ACK.{stream}.>",
        f"$JS.FC.{stream}.>",
    ]


def publish_of(user: str, shards: list[str]) -> list[str]:
    """The subjects that a user may send to."""
    kind, _, shard = user.partition("-")
    if kind == "setup":
        return [">"]
    if kind == "monitor":
        return [f"$SYS.REQ.SERVER.PING.{what}" for what in ("VARZ", "JSZ", "HEALTHZ")]
    if kind == "portfolio":
        readers = [line for each in shards for line in stream_reader(f"OUT_{each}")]
        # Prices: the last messages of the ticks, by which what is held is valued.
        prices = [f"{API}.DIRECT.GET.MD_{each}{more}" for each in shards for more in ("", ".>")]
        known = [f"{API}.STREAM.NAMES", f"{API}.STREAM.INFO.CONTROL"]
        return ["control.*", *known, *readers, *prices]
    if kind == "sequencer":
        md = [f"{API}.STREAM.{what}.MD_{each}" for each in shards for what in ("INFO", "MSG.GET")]
        told = [f"{what}.{each}" for each in shards for what in ("md", "news")]
        return [*told, "map", *md, *stream_reader("MAP")]
    # Neither a gateway nor a shard makes a consumer: it could let one deliver to any subject.
    if kind == "gateway":
        return [f"{API}.STREAM.MSG.GET.MD_{shard}", f"{API}.DIRECT.GET.MD_{shard}"]
    consumer = f"CONTROL.shard-{shard}"
    return [
        f"orders.{shard}",
        f"fills.{shard}",
        f"beats.{shard}",
        f"{API}.STREAM.INFO.OUT_{shard}",
        f"{API}.STREAM.MSG.GET.OUT_{shard}",
        f"{API}.STREAM.INFO.CONTROL",
        f"{API}.CONSUMER.INFO.{consumer}",
        f"{API}.CONSUMER.MSG.NEXT.{consumer}",
        f"$JS.ACK.{consumer}.>",
    ]


def heard_of(user: str) -> list[str]:
    """What a user may listen to besides the answers to itself."""
    kind, _, shard = user.partition("-")
    return {"portfolio": ["beats.*"], "gateway": [f"news.{shard}"]}.get(kind, [])


def users_of(shards: list[str]) -> list[str]:
    """All users of a bus with these shards."""
    of_shards = [f"{kind}-{shard}" for shard in shards for kind in ("shard", "gateway")]
    return ["monitor", "setup", "portfolio", "sequencer", *of_shards]


def password_of(creds: Path, user: str) -> str:
    """The password in the user's file, which is made if it is missing; readable by its group."""
    file = creds / user
    if not file.exists():
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
        with os.fdopen(handle, "w") as opened:
            opened.write(f"{user}:{secrets.token_hex(24)}\n")
    name, _, password = file.read_text().strip().partition(":")
    if name != user or not password:
        raise SystemExit(f"accounts: {file}: must hold one line {user}:password; remove it")
    return password


def account_of(user: str) -> str:
    """The account of a user: each shard has one of its own."""
    kind, _, shard = user.partition("-")
    if kind == "monitor":
        return "SYS"
    return "TRADING" if kind in ("setup", "portfolio", "sequencer") else f"SHARD_{shard}"


def seen(subject: str) -> str:
    """A subject of the account TRADING as a shard's account has it."""
    return subject.replace(API, SHARD_API, 1) if subject.startswith(API) else subject


def config(creds: Path, shards: list[str]) -> str:
    """The part of the brokers' configuration that says who may do what.

    All streams are in the account TRADING.  A shard's account imports the few subjects that its
    users may send to, and their answers come back into it.  In one account for all, permissions
    alone would not do: a shard could name another one's subject for the broker's answer, and the
    broker would write there.
    """
    users = users_of(shards)
    by_account: dict[str, list[str]] = {}
    for user in users:
        by_account.setdefault(account_of(user), []).append(user)
    # NATS's own account: what the servers say of themselves.
    lines = ["accounts {", "  SYS {", *_users(creds, by_account["SYS"], shards), "  }"]
    exports: dict[str, list[str]] = {}
    streams: list[tuple[str, str]] = []
    for account, members in by_account.items():
        if account in ("TRADING", "SYS"):
            continue
        subjects = dict.fromkeys(s for user in members for s in publish_of(user, shards))
        for subject in subjects:
            exports.setdefault(subject, []).append(account)
        lines += [f"  {account} {{", "    imports: ["]
        lines += [
            f'      {{ service: {{ account: TRADING, subject: "{s}" }}, to: "{seen(s)}" }}'
            for s in subjects
        ]
        for heard in (subject for user in members for subject in heard_of(user)):
            lines.append(f'      {{ stream: {{ account: TRADING, subject: "{heard}" }} }}')
            streams.append((heard, account))
        lines += ["    ]", *_users(creds, members, shards), "  }"]
    lines += ["  TRADING {", "    jetstream: enabled", "    exports: ["]
    for subject, accounts in exports.items():
        many = ".MSG.NEXT." in subject or ".DIRECT.GET." in subject
        kind = "stream" if many else "singleton"
        lines.append(
            f'      {{ service: "{subject}", accounts: [{", ".join(accounts)}], '
            f"response_type: {kind} }}"
        )
    lines += [f'      {{ stream: "{heard}", accounts: [{to}] }}' for heard, to in streams]
    lines += ["    ]", *_users(creds, by_account["TRADING"], shards), "  }"]
    return "\n".join([*lines, "}", "system_account: SYS", ""])


def _users(creds: Path, users: list[str], shards: list[str]) -> list[str]:
    lines = ["    users: ["]
    for user in users:
        allowed = publish_of(user, shards)
        if account_of(user) not in ("TRADING", "SYS"):
            allowed = [seen(subject) for subject in allowed]
        publish = ", ".join(f'"{subject}"' for subject in allowed)
        heard = [">"] if user == "setup" else [f"_INBOX.{user}.>", *heard_of(user)]
        subscribe = ", ".join(f'"{subject}"' for subject in heard)
        lines += [
            f"      {{ user: {user}, password: {password_of(creds, user)}, permissions: {{",
            f"        publish: {{ allow: [{publish}] }}",
            f"        subscribe: {{ allow: [{subscribe}] }} }} }}",
        ]
    return [*lines, "    ]"]


def main(folder: str, *shards: str) -> None:
    """Write the files."""
    for shard in shards:
        if not re.fullmatch(r"[a-z0-9-]{1,32}", shard):
            raise SystemExit(f"accounts: shard {shard}: must be 1 to 32 of a-z 0-9 -")
    if not shards or len(set(shards)) < len(shards):
        raise SystemExit("usage: accounts.py FOLDER SHARD..., each shard once")
    creds = Path(folder) / "creds"
    creds.mkdir(parents=True, exist_ok=True)
    target = Path(folder) / "accounts.conf"
    draft = target.with_suffix(".draft")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640), "w") as file:
        file.write(config(creds, list(shards)))
    draft.replace(target)


if __name__ == "__main__":
    main(*sys.argv[1:])
