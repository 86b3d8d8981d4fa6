"""The machine and software that the figures were measured on."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path


def _first(path: str, key: str) -> str:
    for line in Path(path).read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return "unknown"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _commit() -> str:
    commit = _git("rev-parse", "--short=12", "HEAD") or os.environ.get("GIT_COMMIT", "unknown")
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return f"{commit}, with changes" if changed else commit


def _filesystem(folder: Path) -> str:
    """Type of the file system of a folder; it determines the cost of a commit."""
    best, found = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, kind, *_ = line.split()
        if len(mount) >= len(best) and str(folder.resolve()).startswith(mount.rstrip("/") + "/"):
            best, found = mount, kind
    return found


def describe(work_dir: Path) -> dict[str, str]:
    """Label to text: machine, kernel, Python, commit."""
    memory_gib = int(_first("/proc/meminfo", "MemTotal").split()[0]) / 2**20
    hypervisor = " hypervisor " in f" {_first('/proc/cpuinfo', 'flags')} "
    kind = "a virtual machine" if hypervisor else "bare metal"
    cpus = sorted(os.sched_getaffinity(0))
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{_first('/proc/cpuinfo', 'model name')}, {len(cpus)} CPUs, "
        f"{memory_gib:.0f} GiB, {kind}",
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "order store on": _filesystem(work_dir),
        "commit": _commit(),
    }
