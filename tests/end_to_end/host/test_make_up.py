"""``make up`` with an engine that starts the containers of a stack that cannot run."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.medium

LOGS = """\
2026-11-26T16:11:55.560528Z ERROR gateway data_refused reason="a.csv: no row is good"
2026-11-26T16:11:55.561299Z ERROR gateway stopped exit_code=1 reason="a.csv: set DATA_DATE=..."
2026-11-26T16:11:56.000000Z INFO strategy waiting_for_orderbook segments=trading_metadata
2026-11-26T16:12:12.760863Z ERROR gateway stopped exit_code=1 reason="a.csv: set DATA_DATE=..."
2026-11-26T16:12:13.000000Z INFO order_manager stopped exit_code=0
"""


def test_the_reason_is_said_and_not_only_that_a_container_is_unhealthy(tmp_path: Path) -> None:
    engine = tmp_path / "docker"
    engine.write_text(
        f"""#!/bin/sh
case "$*" in
    "compose up"*) echo "container gateway-1 is unhealthy" >&2; exit 1 ;;
    "compose logs"*) cat {tmp_path / "logs"} ;;
esac
"""
    )
    engine.chmod(0o755)
    (tmp_path / "logs").write_text(LOGS)
    done = subprocess.run(
        ["make", "up"],
        cwd=ROOT,
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done
    said = [line for line in done.stdout.splitlines() if line.startswith("up: ")]
    assert said == ['up: gateway stopped exit_code=1 reason="a.csv: set DATA_DATE=..."']
