"""``python -m app store``: the tools of the order store."""

import functools
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import click

from app.config.loading import settings_or_exit
from app.model.timestamps import DAY_NS
from app.order_manager.store import tools
from app.order_manager.store.export import FORMATS, export_store
from app.order_manager.store.files import store_path
from app.order_manager.store.prune import give_back, prune_file
from app.order_manager.store.schema import StoreError


@click.group()
@click.option("--store", metavar="FILE", help="default: ORDER_STORE_PATH")
@click.pass_context
def command(ctx: click.Context, store: str | None) -> None:
    """The group; exit code 0: done, 1: failed, 2: wrong usage or settings."""
    ctx.obj = store


def tool(run: Callable[..., int]) -> Callable[..., int]:
    """Turn a function whose first argument is the store's path into a subcommand."""

    @functools.wraps(run)
    def checked(**arguments: Any) -> int:
        path = click.get_current_context().obj or store_path(settings_or_exit("store"))
        try:
            return run(path, **arguments)
        except (StoreError, OSError, apsw.Error) as error:
            print(f"store: {error}", file=sys.stderr)
            return 1

    return checked


@command.command()
@click.argument("target", required=False)
@tool
def backup(path: str, target: str | None) -> int:
    """Copy the store to TARGET; - is stdout."""
    if target == tools.STREAM:
        copy_path = f"{path}.streamed-{os.getpid()}"
        tools.backup(path, copy_path)
        try:
            with open(copy_path, "rb") as copy:
                shutil.copyfileobj(copy, sys.stdout.buffer)
        finally:
            os.unlink(copy_path)
        return 0
    target = target or f"{path}.backup-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"
    tools.backup(path, target)
    print(target)
    return 0


@command.command()
@click.argument("source")
@tool
def restore(path: str, source: str) -> int:
    """Replace the store with SOURCE; - is stdin."""
    kept = tools.restore(source, path)
    print(f"{path} restored" + (f"; the replaced file is kept as {kept}" if kept else ""))
    return 0


@command.command()
@click.argument("folder", required=False)
@click.option("--format", "form", type=click.Choice(FORMATS), default="csv", show_default=True)
@click.option("--run-id", help="only this run; default: all")
@tool
def export(path: str, folder: str | None, form: str, run_id: str | None) -> int:
    """Write all tables for pandas into FOLDER."""
    target = Path(folder or Path(path).parent / "export")
    with tools.reading(path) as connection:
        for file in export_store(connection, target, form, run_id):
            print(file)
    return 0


@command.command()
@tool
def verify(path: str) -> int:
    """Check that the store is sound; exit code 1 if not."""
    problems = tools.verify(path)
    print("\n".join(problems) or f"{path}: sound")
    return 1 if problems else 0


@command.command()
@click.option("--keep-days", type=click.IntRange(0), help="default: ORDER_STORE_KEEP_DAYS")
@tool
def prune(path: str, keep_days: int | None) -> int:
    """Remove runs whose last order is older; the latest run stays."""
    settings = settings_or_exit("store")
    days = settings.order_store_keep_days if keep_days is None else keep_days
    if keep_days is None and not days:
        print("store: ORDER_STORE_KEEP_DAYS=0 keeps all runs; name --keep-days", file=sys.stderr)
        return 2
    done = prune_file(path, time.time_ns() - days * DAY_NS, shard=settings.shard)
    if done.removed:
        give_back(path)
    print(f"{path}: {len(done.removed)} runs removed, {os.path.getsize(path)} bytes left")
    if done.unpublished:
        count, shard = len(done.unpublished), settings.shard
        print(f"{path}: {count} older runs kept: SHARD={shard} has not published them")
    return 0


@command.command()
@tool
def rebuild(path: str) -> int:
    """Recompute the positions from the fills."""
    print(f"{path}: {tools.rebuild(path)} positions rebuilt")
    return 0
