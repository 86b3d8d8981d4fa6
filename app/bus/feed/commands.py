"""``python -m app.bus sequence`` and ``python -m app.bus move``."""

import argparse
import asyncio
import sys
from typing import Final

from app.bus.feed.beat import Beat
from app.bus.feed.choice import Wanted
from app.bus.feed.map_log import Conflict, MapLog, append_map, read_on
from app.bus.feed.sequencer import Sequencer, Stopped
from app.bus.feed.split import SplitError
from app.bus.link import streams
from app.bus.link.access import Access, bus_access
from app.bus.link.connection import BusRefused, BusUnavailable, Link
from app.bus.link.names import check_shard
from app.bus.process import quiet_asyncio
from app.bus.shard_map import MapError, ShardMap, load
from app.config.loading import EXIT_SETTINGS, load_settings, print_settings_error
from app.config.settings import Settings, SettingsError
from app.market_data.sources.errors import DataError
from app.market_data.sources.loader import open_feed
from app.market_data.sources.progress import LoadInterrupted, LoadProgress
from app.runtime.lifecycle import EXIT_FAULT, EXIT_OK, Stop
from app.runtime.log import get_logger, setup_logging

log = get_logger()

TRIES: Final = 5


def sequence(*argv: str) -> int:
    """Publish a feed, divided by the shard map.

    Exit code 0: all of it is published, or the process was stopped; 1: it cannot be; 2: settings.
    """
    arguments = _sequence_parser().parse_args(argv)
    try:
        settings = load_settings()
        access = bus_access(settings)
        shards = _shards(arguments.shards)
        path = settings.shard_map
        found = load(path) if path or not shards else None
        if settings.is_live:
            raise SettingsError(
                f"DATA_PATH={settings.shown_data_path}: the sequencer reads files; record a live "
                "feed first (python -m app data record)"
            )
    except SettingsError as error:
        print_settings_error("sequencer", error)
        return EXIT_SETTINGS
    except MapError as error:
        print_settings_error("sequencer", SettingsError(str(error)))
        return EXIT_SETTINGS
    setup_logging("sequencer", settings.log_level, settings.log_format)
    quiet_asyncio()
    stop = Stop()
    stop.install()
    try:
        wanted = Wanted(found, path, shards, ())
        _publish(settings, access, wanted, stop, arguments.give_up)
    except (Stopped, LoadInterrupted):
        log.info("stopped", exit_code=EXIT_OK, reason=stop.reason)
    except DataError as error:
        for line in str(error).splitlines():
            log.error("data_refused", reason=line)
        return EXIT_FAULT
    except (BusRefused, SplitError) as error:
        log.error("fatal", error=str(error))
        return EXIT_FAULT
    except OSError as error:
        log.error("fatal", error=f"RUN_DIR={settings.run_dir}: {error.strerror}: make it writable")
        return EXIT_FAULT
    return EXIT_OK


def _sequence_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m app.bus sequence",
        description="Numbers the ticks of DATA_PATH for each shard of SHARD_MAP, and publishes "
        "them to md.<shard> at PACE. Killed at any moment, the same command goes on.",
    )
    parser.add_argument(
        "--give-up",
        default="",
        metavar="RUN",
        help="a run in the streams that has no end, and will not get one: another one follows it; "
        "'*': whichever it is",
    )
    parser.add_argument(
        "--shards",
        nargs="+",
        default=[],
        metavar="NAME",
        help="the shards that there are; without SHARD_MAP, the symbols are dealt out to them",
    )
    return parser


def _publish(settings: Settings, access: Access, wanted: Wanted, stop: Stop, give_up: str) -> None:
    """Load the data, and publish it; ``wanted`` has no symbols yet.

    Raises:
        BusRefused, SplitError, DataError, OSError: it cannot be done.
        Stopped, LoadInterrupted: ``stop`` was set.
    """
    alive = Beat(settings.run_dir)
    if problem := wanted.problem():
        raise BusRefused(problem)
    with LoadProgress(lambda: bool(stop)) as progress:
        feed = open_feed(settings, progress)
    wanted = wanted._replace(symbols=feed.symbols)
    if problem := wanted.problem():
        raise BusRefused(problem)
    sequencer = Sequencer(
        settings, access, feed, wanted, lambda: bool(stop), give_up=give_up, alive=alive.beat
    )
    asyncio.run(sequencer.run())


def _shards(names: list[str]) -> tuple[str, ...]:
    try:
        shards = tuple(check_shard(name) for name in names)
    except ValueError as error:
        raise SettingsError(f"--shards: {error}") from None
    if len(set(shards)) < len(shards):
        raise SettingsError(f"--shards {' '.join(names)}: each once")
    return shards


def move(*argv: str) -> int:
    """Append a version of the map in which a symbol is on another shard.

    Exit code 0: it is in the stream; 1: it is not; 2: settings.
    """
    parser = argparse.ArgumentParser(
        prog="python -m app.bus move",
        description="Moves a symbol, or a group, to another shard, from a tick of the running feed "
        "on that the sequencer decides. Its positions and open orders stay where they are "
        "(app/bus/feed/README.md).",
    )
    parser.add_argument("name", metavar="SYMBOL", help="a symbol or a group of the shard map")
    parser.add_argument("--to", required=True, metavar="SHARD", help="the shard it moves to")
    arguments = parser.parse_args(argv)
    try:
        settings = load_settings()
        access = bus_access(settings)
    except SettingsError as error:
        print_settings_error("move", error)
        return EXIT_SETTINGS
    quiet_asyncio()
    try:
        before, after = asyncio.run(_move(settings, access, arguments.name, arguments.to))
    except (MapError, BusRefused, BusUnavailable) as error:
        print(f"move: {error}", file=sys.stderr)
        return EXIT_FAULT
    moved = arguments.name
    symbols = ", ".join(before.groups.get(moved, (moved,)))
    old = before.shard_of(before.groups.get(moved, (moved,))[0])
    print(
        f"map version {after.version}: {symbols} from shard {old} to {arguments.to}, from the next "
        f"batch on; what {old} holds of it stays there"
    )
    return EXIT_OK


async def _move(
    settings: Settings, access: Access, name: str, to: str
) -> tuple[ShardMap, ShardMap]:
    """The map before and after."""
    async with await Link.open(access, "move") as link:
        await streams.ensure(link, streams.shard_map(), settings.bus_replicas)
        maps = MapLog()
        for _ in range(TRIES):
            await read_on(link, maps)
            before = maps.latest
            if before is None:
                raise MapError("the stream MAP is empty: start the sequencer first")
            after = before.moved(name, to)
            try:
                await append_map(link, maps, after)
            except Conflict:
                continue
            return before, after
    raise MapError("others change the map at the same time: try again")
