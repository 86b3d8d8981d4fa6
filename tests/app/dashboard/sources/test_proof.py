"""The child that proves: which of its ends are verdicts, and what is shown of the others."""

import asyncio
import sys

import pytest

from app.dashboard.sources import proof as proof_module
from app.dashboard.sources.proof import Proof

LINES = {"equal": '{"equal":3,"difference":null}', "different": '{"equal":2,"difference":{"id":1}}'}


@pytest.mark.parametrize(
    ("line", "code", "stays"),
    [
        ("equal", 0, True),
        ("different", 1, True),
        ("equal", 1, False),  # Python's own code of a crash
        ("different", 0, False),
        ("equal", 3, False),
        ("equal", -9, False),
    ],
)
def test_only_a_verdict_stays_until_the_next_run(
    monkeypatch: pytest.MonkeyPatch, line: str, code: int, stays: bool
) -> None:
    """Anything else is tried again, and nothing is called equal meanwhile."""
    monkeypatch.setattr(proof_module, "RETRY_S", 30.0)
    end = "os.kill(os.getpid(), 9)" if code < 0 else f"os._exit({code})"
    script = (
        f"import os, sys; print('{LINES[line]}', flush=True); "
        f"print('why', file=sys.stderr, flush=True); {end}"
    )

    asked = []

    def run_id() -> str:
        asked.append(1)
        return "run"

    async def see() -> Proof:
        made = Proof(run_id, [sys.executable, "-c", script])
        made.start()
        for _ in range(500):
            await asyncio.sleep(0.01)
            # After a verdict it waits for the next run.
            if made.problem == "why" or len(asked) > 1:
                break
        await asyncio.sleep(0.05)
        await made.stop()
        return made

    found = asyncio.run(see())
    assert found.problem == ("" if stays else "why")
    assert (found.line is not None) == stays
