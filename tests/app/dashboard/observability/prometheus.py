"""A real Prometheus with the rules of the project, for tests."""

import json
import os
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.children import eventually
from tests.support.paths import ROOT
from tests.support.ports import free_ports

FOLDER: Final = ROOT / "images" / "observability"


def prometheus_tools() -> Path:
    """The folder of prometheus and promtool; skips the test where they cannot be had."""
    done = subprocess.run([FOLDER / "tools.sh"], capture_output=True, text=True, check=False)
    if done.returncode and os.environ.get("REQUIRE_CONTAINERS"):
        pytest.fail(done.stderr)
    if done.returncode:
        pytest.skip(done.stderr.strip())
    return Path(done.stdout.strip())


class Prometheus:
    """One with a configuration of the project, but faster: it looks each half second.

    ``targets``: what stands in the configuration -> what is there instead.  ``window_s``: what
    rules look back on, in place of their minutes; 0: as they are.
    """

    def __init__(
        self,
        tools: Path,
        folder: Path,
        targets: Mapping[str, str],
        config: str = "prometheus.yml",
        every: str = "500ms",
        window_s: int = 0,
    ) -> None:
        self.port = free_ports(1)[0]
        text = (FOLDER / config).read_text()
        (file,) = re.findall(r"rule_files: \[(\S+)\]", text)
        for old, new in {
            **targets,
            "interval: 5s": f"interval: {every}",
            "/run/secrets/metrics_token": str(folder / "token"),
        }.items():
            assert old in text
            text = text.replace(old, new)
        (folder / "token").touch()
        (folder / config).write_text(text)
        rules = re.sub(r"\bfor: \w+", "for: 1s" if not window_s else "for: 0s",
                       (FOLDER / file).read_text())  # fmt: skip
        if window_s:
            rules = re.sub(r"\[\d+m\]", f"[{window_s}s]", rules)
        (folder / file).write_text(rules)
        check = [tools / "promtool", "check", "config", folder / config]
        subprocess.run(check, check=True, capture_output=True)
        with (folder / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    tools / "prometheus",
                    f"--config.file={folder / config}",
                    f"--storage.tsdb.path={folder}/data",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                ],
                stdout=log, stderr=log, env={**os.environ, "GOMAXPROCS": "1"},
            )  # fmt: skip

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its API."""
        query = urllib.parse.urlencode(parameters)
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{query}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.loads(answer.read())["data"]

    def query(self, expression: str) -> list[Any]:
        """The result of an expression now."""
        return list(self.ask("query", query=expression)["result"])

    def firing(self) -> set[str]:
        """The alerts that fire."""
        alerts = self.ask("alerts")["alerts"]
        return {each["labels"]["alertname"] for each in alerts if each["state"] == "firing"}

    def wait_for(self, holds: Callable[[], object], what: str, deadline_s: float = 30) -> None:
        """Until it is so."""
        eventually(holds, what, deadline_s, poll_s=0.1, ignore=(OSError, KeyError))

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
