"""The shard map: which shard has which symbol; versioned, and every symbol exactly once.

::

    {"version": 1,
     "shards": {"a": ["AAPL", "MSFT"], "b": ["GOOG"]},
     "groups": {"tech": ["AAPL", "MSFT"]}}

The symbols of a group are read together by one strategy, so they are on one shard and move
together.  A shard may be empty: its symbols have moved away.  Pure, but for :func:`load`.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from app.bus.link.names import SHARD_NAME
from app.model.symbols import symbol_problem
from app.runtime.readable import why_unreadable

VERSION_MAX: Final = 1_000_000
BYTES_MAX: Final = 512 * 1024
"""A map is one message on the bus."""
_GROUP: Final = re.compile(r"[A-Za-z0-9_.-]{1,32}")
_MEMBERS: Final = ("version", "shards", "groups")


class MapError(Exception):
    """The map cannot be used; one line that says what is wrong."""


@dataclass(frozen=True, slots=True)
class ShardMap:
    """A map that was checked: :meth:`of`, :func:`parse` and :func:`load` make one."""

    version: int
    shards: dict[str, tuple[str, ...]]
    groups: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, value: object) -> "ShardMap":
        """The map that decoded JSON describes.

        Raises:
            MapError: it describes none.
        """
        if not isinstance(value, dict) or not set(value) <= set(_MEMBERS):
            raise MapError("must be an object with version, shards and perhaps groups")
        version = value.get("version")
        if type(version) is not int or not 1 <= version <= VERSION_MAX:
            raise MapError(f"version must be a whole number from 1 to {VERSION_MAX}")
        shards = _lists(value.get("shards"), "shards", SHARD_NAME, "a-z 0-9 -")
        if not any(shards.values()):
            raise MapError("shards has no symbol")
        groups = _lists(value.get("groups", {}), "groups", _GROUP, "A-Z a-z 0-9 _ . -")
        made = cls(version, shards, groups)
        for problem in made._problems():
            raise MapError(problem)
        return made

    def _problems(self) -> Iterator[str]:
        seen: dict[str, str] = {}
        for shard, symbols in self.shards.items():
            for symbol in symbols:
                if problem := symbol_problem(symbol.encode()):
                    yield f"shard {shard}: {symbol[:40]!r}: {problem}"
                if symbol in seen:
                    both = (
                        f"{seen[symbol]} and {shard}" if seen[symbol] != shard else f"{shard} twice"
                    )
                    yield f"{symbol} is on shard {both}: every symbol is on exactly one"
                seen[symbol] = shard
        grouped: dict[str, str] = {}
        for group, symbols in self.groups.items():
            if not symbols:
                yield f"group {group} has no symbol"
            if group in seen:
                yield f"group {group} has the name of a symbol: rename it"
            for symbol in symbols:
                if symbol not in seen:
                    yield f"group {group}: {symbol[:40]} is on no shard"
                if symbol in grouped:
                    yield f"{symbol} is in the groups {grouped[symbol]} and {group}: one is enough"
                grouped[symbol] = group
            if len(where := sorted({seen[symbol] for symbol in symbols})) > 1:
                yield f"group {group} is on the shards {', '.join(where)}: it must be on one"

    @property
    def symbols(self) -> list[str]:
        """All symbols, sorted: their order is the same in each version."""
        return sorted(symbol for symbols in self.shards.values() for symbol in symbols)

    def shard_of(self, symbol: str) -> str:
        """The shard that has the symbol.

        Raises:
            MapError: none has it.
        """
        for shard, symbols in self.shards.items():
            if symbol in symbols:
                return shard
        raise MapError(f"{symbol[:40]} is on no shard")

    def encoded(self) -> bytes:
        """JSON, which :func:`parse` reads."""
        shards = {shard: list(symbols) for shard, symbols in self.shards.items()}
        groups = {group: list(symbols) for group, symbols in self.groups.items()}
        return json.dumps({"version": self.version, "shards": shards, "groups": groups}).encode()

    def moved(self, name: str, to: str) -> "ShardMap":
        """The next version, in which a symbol, or the group ``name``, is on the shard ``to``.

        Raises:
            MapError: there is no such symbol, group or shard; it is there; or its group stays.
        """
        if to not in self.shards:
            raise MapError(f"no shard {to[:40]!r}: one of {', '.join(self.shards)}")
        moving = self.groups.get(name, (name,))
        here = self.shard_of(moving[0])
        if name not in self.groups:
            for group, symbols in self.groups.items():
                if name in symbols:
                    raise MapError(
                        f"{name} is of group {group}, which stays together: move {group}"
                    )
        if here == to:
            raise MapError(f"{name} is on shard {to} already")
        shards = {
            shard: tuple(each for each in symbols if each not in moving)
            for shard, symbols in self.shards.items()
        }
        shards[to] += tuple(sorted(moving))
        return ShardMap(self.version + 1, shards, self.groups)

    def with_shards(self, names: Sequence[str]) -> "ShardMap":
        """The next version, in which there are also the shards of these names, without symbols."""
        new = {name: () for name in names if name not in self.shards}
        return ShardMap(self.version + 1, self.shards | new, self.groups)

    def successor_problem(self, later: "ShardMap") -> str:
        """Why ``later`` cannot follow this map within a run; empty: it can."""
        if later.version <= self.version:
            return f"version {later.version} does not follow version {self.version}"
        if gone := sorted(set(self.shards) - set(later.shards)):
            return f"shard {gone[0]}: the shards of a run stay; it may be without symbols: []"
        for shard in sorted(set(later.shards) - set(self.shards)):
            if later.shards[shard]:
                return f"shard {shard} is new: add it without symbols, then move some to it"
        if later.symbols != self.symbols:
            other = sorted(set(later.symbols) ^ set(self.symbols))[0]
            return f"{other}: the symbols of a run stay: begin a run with another RUN_ID for others"
        return ""


def spread(symbols: Sequence[str], shards: Sequence[str], version: int) -> ShardMap:
    """The symbols dealt out to the shards in turn.

    Raises:
        MapError: there are fewer symbols than shards.
    """
    if len(symbols) < len(shards):
        raise MapError(f"the data has {len(symbols)} symbols, fewer than the shards")
    dealt = {shard: tuple(symbols[n :: len(shards)]) for n, shard in enumerate(shards)}
    return ShardMap(version, dealt, {})


def parse(text: bytes) -> ShardMap:
    """The map in JSON.

    Raises:
        MapError: it is no map.
    """
    if len(text) > BYTES_MAX:
        raise MapError(f"{len(text)} bytes, at most {BYTES_MAX}")
    try:
        value = json.loads(text.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise MapError(f"no JSON: {error}") from None
    return ShardMap.of(value)


def load(path: str) -> ShardMap:
    """The map in the file that SHARD_MAP names.

    Raises:
        MapError: it cannot be read, or is no map.
    """
    if not path:
        raise MapError("SHARD_MAP=: required here, the file that says which shard has which symbol")
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise MapError(f"SHARD_MAP={path}: {why_unreadable(path, error)}") from None
    try:
        return parse(text)
    except MapError as error:
        raise MapError(f"SHARD_MAP={path}: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise MapError(f"{twice[:40]!r} is there twice")
    return found


def _lists(
    value: object, what: str, pattern: re.Pattern[str], allowed: str
) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, dict):
        raise MapError(f"{what} must be an object of lists of symbols")
    for name, symbols in value.items():
        if not pattern.fullmatch(name):
            raise MapError(f"{what}: {name[:40]!r} must be 1 to 32 of {allowed}")
        if not isinstance(symbols, list) or not all(isinstance(each, str) for each in symbols):
            raise MapError(f"{what}: {name} must be a list of symbols")
    return {name: tuple(symbols) for name, symbols in value.items()}
