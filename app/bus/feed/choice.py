"""Which version of the shard map a sequencer adds to the stream ``MAP`` before it publishes.  Pure.

With a file in SHARD_MAP the file says it, by its version.  Without one the data's symbols are dealt
out to the shards that there are, and what was moved since stays moved.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from app.bus.shard_map import MapError, ShardMap, spread


class Wanted(NamedTuple):
    """What the sequencer was given: the map of SHARD_MAP, or the shards, or both.

    ``path``: SHARD_MAP, for what is said; ``symbols``: those of the data.
    """

    map: ShardMap | None
    path: str
    shards: tuple[str, ...]
    symbols: Sequence[str]

    def problem(self) -> str:
        """Why the map of the file cannot be used, whatever the stream has; empty: it can."""
        if self.map is None:
            return ""
        if self.shards and set(self.shards) != set(self.map.shards):
            return (
                f"SHARD_MAP={self.path}: has the shards {_list(self.map.shards)}, and there are "
                f"{_list(self.shards)}: name the same in both; a shard may be without symbols: []"
            )
        known = set(self.map.symbols)
        if missing := [symbol for symbol in self.symbols if symbol not in known]:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            return (
                f"SHARD_MAP={self.path}: {missing[0]}{more}: in the data, on no shard: add it to "
                "one"
            )
        return ""


def addition(wanted: Wanted, latest: ShardMap | None, running: ShardMap | None) -> ShardMap | None:
    """The version to append to those of the stream; None: the stream's latest holds.

    ``latest``: the latest of the stream; ``running``: of the run, if it has begun.

    Raises:
        MapError: what is wanted contradicts the stream.
    """
    found = _of_file(wanted, latest) if wanted.map else _dealt(wanted, latest, running)
    problem = running.successor_problem(found) if found and running else ""
    if problem:
        raise MapError(f"{_name(wanted)}: {problem}")
    holds = found or latest
    if holds is not None and wanted.shards and set(holds.shards) != set(wanted.shards):
        raise MapError(
            f"{_name(wanted)}: version {holds.version} of the stream MAP has the shards "
            f"{_list(holds.shards)}, and there are {_list(wanted.shards)}: keep those, or begin "
            f"another run with a SHARD_MAP of version {holds.version + 1}"
        )
    return found


def _of_file(wanted: Wanted, latest: ShardMap | None) -> ShardMap | None:
    file = wanted.map
    assert file is not None
    if latest is None or file.version > latest.version:
        return file
    if file.version == latest.version and file != latest:
        raise MapError(
            f"SHARD_MAP={wanted.path}: is not version {latest.version} of the stream MAP: give a "
            "changed map the next version"
        )
    return None


def _dealt(wanted: Wanted, latest: ShardMap | None, running: ShardMap | None) -> ShardMap | None:
    if latest is None:
        return spread(wanted.symbols, wanted.shards, 1)
    if running is not None:
        new = set(wanted.shards) - set(latest.shards)
        return latest.with_shards(wanted.shards) if new else None
    fits = (
        set(latest.shards) == set(wanted.shards)
        and all(latest.shards.values())
        and set(wanted.symbols) <= set(latest.symbols)
    )
    return None if fits else spread(wanted.symbols, wanted.shards, latest.version + 1)


def _name(wanted: Wanted) -> str:
    return f"SHARD_MAP={wanted.path}" if wanted.map else f"--shards {' '.join(wanted.shards)}"


def _list(shards: Iterable[str]) -> str:
    return ", ".join(sorted(shards))
