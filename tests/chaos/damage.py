"""Accidents to files: bits that flip in shared memory, store files that are removed."""

import mmap
import random
import struct
import time
from pathlib import Path
from typing import Final

STORE: Final = "orders.sqlite3"
STORE_FILES: Final = {"store": (STORE,), "wal": (f"{STORE}-wal",), "both": (STORE, f"{STORE}-wal")}
STORE_BACK_S: Final = 5.0

# app/kernel/layout.h
RING_HEAD_BYTES: Final = 8192
RING_TICK_BYTES: Final = 32
PUBLISHED: Final = 64
BOOK_HEAD_BYTES: Final = 4096


def flip(path: Path, seed: str) -> str:
    """Flip one bit of a ring or book; returns where, empty if there is no such file just now.

    Most flips hit what is about to be read: the last ticks that were published, the head of the
    file, the cells of the book.
    """
    rng = random.Random(seed)
    try:
        with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
            at = _place(memory, rng)
            bit = rng.randrange(8)
            memory[at] ^= 1 << bit
            return f"byte {at}, bit {bit}"
    except (OSError, ValueError):  # removed, or not yet of its full size
        return ""


def _place(memory: mmap.mmap, rng: random.Random) -> int:
    if len(memory) < 1 << 20:  # the book
        head = rng.random() < 0.3
        return rng.randrange(0, BOOK_HEAD_BYTES) if head else rng.randrange(len(memory))
    if rng.random() < 0.3:
        return rng.randrange(RING_HEAD_BYTES)
    ticks = (len(memory) - RING_HEAD_BYTES) // RING_TICK_BYTES
    (published,) = struct.unpack_from("<Q", memory, PUBLISHED)
    tick = (published + rng.randrange(-50, 5)) % ticks
    return RING_HEAD_BYTES + tick * RING_TICK_BYTES + rng.randrange(RING_TICK_BYTES)


def remove_store(folder: Path, which: str) -> bool:
    """Remove files of a store that a living order manager has open; whether they are back in time.

    It is not killed meanwhile: what a removed file alone contains is lost with its process.
    """
    paths = [folder / name for name in STORE_FILES[which]]
    for path in paths:
        path.unlink(missing_ok=True)
    deadline = time.monotonic() + STORE_BACK_S
    while not (folder / STORE).exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    time.sleep(0.5)  # the next look finds the write-ahead log
    return True
