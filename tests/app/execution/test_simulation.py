"""Random histories with faults: the order core and a slow plain oracle agree."""

import os
import random
import time

import pytest

from app.execution.pending_rows import Recovered
from app.order_manager.store.positions import position_rows, read_positions, rebuild_positions
from app.order_manager.store.store import OrderStore
from tests.support.orders.simulator import MemoryStore, Setup, random_setup, run_history

HISTORIES = int(os.environ.get("ORDER_HISTORIES", "100000"))
BLOCKS = 10
FIRST_SEED = int(os.environ.get("ORDER_SEED", "1"))
RANDOM = random.Random(FIRST_SEED)
SETUPS = [random_setup(random.Random(index)) for index in range(500)]


def _setup(seed: int) -> Setup:
    return SETUPS[seed % len(SETUPS)]


@pytest.mark.medium
@pytest.mark.parametrize("block", range(BLOCKS))
def test_histories_agree_with_the_oracle(block: int) -> None:
    """In blocks, so that the workers of a test run share them."""
    start = time.monotonic()
    seeds = range(FIRST_SEED + block, FIRST_SEED + HISTORIES, BLOCKS)
    for seed in seeds:
        try:
            run_history(seed, _setup(seed), MemoryStore())
        except BaseException:
            print(f"replay with: ORDER_SEED={seed} ORDER_HISTORIES=1")
            raise
    print(f"{len(seeds)} histories in {time.monotonic() - start:.0f} s")


class SqliteStore(OrderStore):
    """The real store under the simulator's names, maintained at random moments.

    Between batches, a reader of the file finds the positions of all fills.
    """

    def discard_batch(self) -> None:
        self.rollback()
        self._maintain()

    def commit(self) -> bool:
        written = super().commit()
        if RANDOM.random() < 0.8:
            self.end_batch()
        self._maintain()
        return written

    def load(self) -> Recovered:
        found = super().load()
        self._maintain()
        return found

    def _maintain(self) -> None:
        checkpointer = self.checkpointer
        checkpointer._last_batch_s = RANDOM.choice((0.0, checkpointer._last_batch_s))
        checkpointer.wal_pages = RANDOM.choice((0, 9000))
        self.maintain(idle=RANDOM.random() < 0.5)
        positions, _ = read_positions(self._connection)
        assert position_rows(positions) == position_rows(rebuild_positions(self._connection))


@pytest.mark.parametrize("block", range(4))
def test_histories_on_sqlite_agree_with_the_oracle(block: int) -> None:
    for seed in range(FIRST_SEED + block * 100, FIRST_SEED + (block + 1) * 100):
        store = SqliteStore.open(":memory:")
        try:
            run_history(seed, _setup(seed), store, steps=40)
        except BaseException:
            print(f"seed {seed}, 40 steps, on SQLite")
            raise
        finally:
            store.close()
