"""Structured fuzzing of the order port: each frame is answered, or its connection is closed."""

import json
import os
import random
import time
from pathlib import Path

import pytest

from app.order_manager.store.tools import verify
from tests.support.orders.fuzzer import Fuzzer
from tests.support.orders.process import OrderManagerProcess

SEED = int(os.environ.get("ORDER_FUZZ_SEED", "1"))
BATCH = 200
ENDS = {"BAD_UTF8", "FRAME_TOO_LONG", "OTHER_PROTOCOL"}
GROWTH_BYTES_MAX = 16 * 2**20


def _fuzz(folder: Path, frames: int, seed: int) -> None:
    print(f"{frames} frames; repeat with: ORDER_FUZZ_SEED={seed}")
    fuzzer, rng = Fuzzer(seed), random.Random(seed)
    answered: dict[str, int] = {}
    closed = sent = 0
    warm_bytes = 0
    slowest_s = 0.0
    with OrderManagerProcess(folder, order_clients_max=100) as manager:
        client = manager.client(20)
        while sent < frames:
            batch = [fuzzer.frame() for _ in range(BATCH)]
            sent += BATCH
            while batch:
                data = b"*".join(batch) + b"*"
                begin = time.monotonic()
                cut = rng.randrange(len(data))
                ended = 0
                try:
                    client.send(data[:cut])
                    client.send(data[cut:])
                except (ConnectionResetError, BrokenPipeError):
                    pass
                for number in range(len(batch)):
                    answer = json.loads(client.read_frame())
                    code = answer.get("code", "ok")
                    assert answer["ok"] is (code == "ok"), answer
                    assert answer["ok"] or answer["msg"], answer
                    answered[code] = answered.get(code, 0) + 1
                    assert code != "INTERNAL", (batch[number], manager.log()[-3000:])
                    if code in ENDS:
                        ended = number + 1
                        break
                slowest_s = max(slowest_s, time.monotonic() - begin)
                if not ended:
                    break
                # Frames after a violation get no answer: send them again on a new connection.
                client.close()
                closed += 1
                client = manager.client(20)
                batch = batch[ended:]
            if not warm_bytes and sent >= frames // 4:
                warm_bytes = manager.resident_bytes()
        growth = manager.resident_bytes() - warm_bytes
        client.close()
        with manager.client() as last:
            assert last.ask({"op": "ping"})["ok"] is True
        assert manager.stop() == 0
        assert "Traceback" not in manager.log(), manager.log()[-3000:]
    assert verify(str(manager.store_path)) == []
    print(
        f"{closed} connections closed, slowest batch {slowest_s:.2f} s, growth {growth >> 10} KiB"
    )
    print(dict(sorted(answered.items(), key=lambda item: -item[1])))
    assert growth < GROWTH_BYTES_MAX
    assert slowest_s < 5
    assert len(answered) >= 12, "the fuzzer reaches too few reject codes"


@pytest.mark.medium
def test_fifty_thousand_frames(tmp_path: Path) -> None:
    _fuzz(tmp_path, 50_000, SEED)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_million_frames(tmp_path: Path) -> None:
    _fuzz(tmp_path, 1_000_000, SEED + 1)
