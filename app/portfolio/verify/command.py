"""``python -m app portfolio``: the portfolio compared with its shards' stores."""

import os
import re
import sys
from typing import Final

import apsw
import click

from app.bus.link.names import SHARD_NAME
from app.config.loading import settings_or_exit
from app.order_manager.store.schema import StoreError
from app.portfolio.books_file import StateError, read_books
from app.portfolio.state import state_path
from app.portfolio.verify.stores import books_of_stores, differences, not_compared, summary
from app.runtime.metrics.tables import plain_text, table

SHOWN_MAX: Final = 40


@click.group()
def command() -> None:
    """Exit code 0: equal, 1: not equal, or a file cannot be read, 2: wrong usage or settings."""


def stores_of(texts: tuple[str, ...]) -> dict[str, str]:
    """Shard -> path, from SHARD=FILE.

    Raises:
        UsageError: one is not of that form, or names a shard again.
    """
    found: dict[str, str] = {}
    for text in texts:
        shard, equals, path = text.partition("=")
        if not equals or not path or not re.fullmatch(SHARD_NAME, shard):
            raise click.UsageError(
                f"{text}: must be SHARD=FILE, such as a=data/out/a/orders.sqlite3"
            )
        if shard in found:
            raise click.UsageError(f"{text}: the shard {shard} is named twice")
        found[shard] = path
    return found


@command.command()
@click.argument("stores", metavar="SHARD=STORE...", nargs=-1, required=True)
@click.option("--books", metavar="FILE", help="default: PORTFOLIO_STORE_PATH")
def verify(stores: tuple[str, ...], books: str | None) -> int:
    """Compare the books with the sum of all order stores.

    Run by run. A running portfolio may be compared: what it has not read yet is shown as missing
    fills. An older run that its store no longer has is named and not compared.
    """
    named = stores_of(stores)
    path = books or state_path(settings_or_exit("portfolio"))
    try:
        if not os.path.exists(path):
            raise StateError(f"{path}: no such file; the portfolio makes it when it starts")
        found, expected = read_books(path), books_of_stores(named)
    except (StateError, StoreError, apsw.Error, OSError) as error:
        print(f"portfolio: {error}", file=sys.stderr)
        return 1
    shards = sorted(named)
    head = ("shard", "run", "fills", "symbols held", "exposure", "PnL")
    print(plain_text(table(head, list(summary(expected)))))
    for note in not_compared(found, expected, shards):
        print(note)
    wrong = list(differences(found, expected, shards))
    for each in wrong[:SHOWN_MAX]:
        print(each)
    if len(wrong) > SHOWN_MAX:
        print(f"... and {len(wrong) - SHOWN_MAX} more")
    print(f"{path}: {'differs from' if wrong else 'equals'} the sum of the stores")
    return 1 if wrong else 0
