"""Audit the locked packages for known vulnerabilities (``make audit``): all lock files, at osv.dev.

Exit code 1: a vulnerability.  2: nothing is known, because the advisories cannot be reached; with
AUDIT_OFFLINE_OK=1, as in CI, one line says so and the exit code is 0.  AUDIT_URL names a mirror of
osv.dev.  images/supply_chain/accepted.txt, if present, lists vulnerabilities that are known and
accepted: id and reason, one a line.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("requirements.lock", *sorted(map(str, Path("images/locks").glob("*.txt"))))
ACCEPTED = Path("images/supply_chain/accepted.txt")
OSV = "https://api.osv.dev/v1/query"
TIMEOUT_S = 60
# How a failed request ends pip-audit's output.
UNREACHABLE = re.compile(
    r"(Connection|Timeout|HTTP|SSL|Proxy|JSONDecode)Error|Timeout|ServiceError"
)


def locked() -> list[dict[str, str]]:
    """Name -> version of all lock files; a further table for each further version of a name.

    Without the conditions: a lock has other versions for the images' Python than for this one.
    """
    tables: list[dict[str, str]] = [{}]
    for lock in LOCKS:
        for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", Path(lock).read_text(), re.M):
            if any(table.get(name) == version for table in tables):
                continue
            table = next((table for table in tables if name not in table), None)
            if table is None:
                tables.append(table := {})
            table[name] = version
    return tables


def pip_audit(table: dict[str, str], timeout_s: float) -> tuple[str, str]:
    """What pip-audit prints, as JSON, and its messages."""
    url = os.environ.get("AUDIT_URL") or OSV
    command = [str(Path(sys.executable).with_name("pip-audit")), "--format=json", "--timeout=10"]
    command += ["--no-deps", "--disable-pip", "--progress-spinner=off"]
    command += ["--vulnerability-service=osv", f"--osv-url={url}"]
    if ACCEPTED.exists():
        for line in ACCEPTED.read_text().splitlines():
            command += ["--ignore-vuln", line.split()[0]] if line.strip() else []
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.writelines(f"{name}=={version}\n" for name, version in table.items())
        file.flush()
        command += ["--requirement", file.name]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            return "", f"Timeout: no answer within {TIMEOUT_S} s"
    return done.stdout, done.stderr


def unknown(reason: str) -> int:
    """Say that nothing was audited, in one line; returns the exit code."""
    print(f"audit: NOT DONE, the advisories cannot be reached: {reason}")
    return 0 if os.environ.get("AUDIT_OFFLINE_OK") else 2


def main() -> int:
    """Audit; returns the exit code."""
    deadline = time.monotonic() + TIMEOUT_S
    tables = locked()
    packages = []
    for table in tables:
        output, messages = pip_audit(table, max(0.1, deadline - time.monotonic()))
        try:
            packages += json.loads(output)["dependencies"]
        except ValueError:
            last = (messages.strip().splitlines() or ["no output"])[-1]
            if UNREACHABLE.search(last):
                return unknown(last.rpartition("Caused by ")[2].rstrip(")")[-200:])
            print(f"audit: pip-audit failed: {last[-500:]}")
            return 1
    # pip-audit calls packages that a service does not know harmless.
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    wanted = sum(map(len, tables))
    if skipped or len(packages) != wanted:
        return unknown(f"{wanted - len(packages) + len(skipped)} packages are not known there")
    found = [(package, each) for package in packages for each in package["vulns"]]
    for package, each in found:
        fix = ", ".join(each["fix_versions"]) or "none"
        print(f"audit: {package['name']} {package['version']}: {each['id']}, fixed in: {fix}")
    if not found:
        print(f"audit: {wanted} packages, no known vulnerability")
    return 1 if found else 0


if __name__ == "__main__":
    os.chdir(ROOT)
    raise SystemExit(main())
