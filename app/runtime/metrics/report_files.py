"""The report as files: Markdown for people, JSON and JUnit XML for machines."""

import secrets
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Final

import msgspec

from app.runtime.log import get_logger
from app.runtime.metrics.report import Report, to_markdown

log = get_logger()

FILE_NAME: Final = "performance_report.md"
JSON_NAME: Final = "report.json"
JUNIT_NAME: Final = "junit.xml"
SUITE: Final = "trading_stack"


def to_json(report: Report) -> str:
    """Every field of the report, with its verdict, exit code and trades hash."""
    hashes = sorted({orders.trades_hash for orders in report.orders})
    values = {
        "verdict": report.verdict,
        "exit_code": report.exit_code,
        "trades_hash": hashes[0] if len(hashes) == 1 else None,
        **msgspec.structs.asdict(report),
    }
    return msgspec.json.format(msgspec.json.encode(values), indent=2).decode() + "\n"


def read(output_dir: str | Path) -> Report | None:
    """The report in ``output_dir``; None if there is none, or it is another version's."""
    try:
        return msgspec.json.decode((Path(output_dir) / JSON_NAME).read_bytes(), type=Report)
    except (OSError, msgspec.MsgspecError):
        return None


def to_junit(report: Report) -> str:
    """One test case for completeness, and one for each expectation."""
    suite = ET.Element("testsuite", name=SUITE, timestamp=f"{report.created:%Y-%m-%dT%H:%M:%S}")
    results = {"tests": 0, "failures": 0, "skipped": 0}

    def add(name: str, outcome: str, message: str) -> None:
        case = ET.SubElement(suite, "testcase", classname=SUITE, name=name)
        results["tests"] += 1
        if outcome:
            ET.SubElement(case, outcome, message=message)
            results["failures" if outcome == "failure" else outcome] += 1

    add("completeness", "failure" if report.problems else "", "; ".join(report.problems))
    for each in report.expectations:
        if report.problems:
            add(each.name, "skipped", "the run is not complete")
        else:
            add(each.name, "failure" if each.missed else "", each.missed)
    for key, count in results.items():
        suite.set(key, str(count))
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode") + "\n"


def write_or_log(report: Report, output_dir: str | Path) -> Path | None:
    """As :func:`write`; a folder that cannot be written is logged and does not change the run."""
    try:
        return write(report, output_dir)
    except OSError as error:
        log.error("report_not_written", folder=str(output_dir), error=str(error))
        return None


def write(report: Report, output_dir: str | Path) -> Path:
    """Write the three files into ``output_dir``, each whole or not at all.

    Returns the path of :data:`FILE_NAME`.

    Raises:
        OSError: the directory cannot be made or written.
    """
    directory = Path(output_dir)
    directory.mkdir(parents=True, exist_ok=True)
    files = {
        FILE_NAME: to_markdown(report),
        JSON_NAME: to_json(report),
        JUNIT_NAME: to_junit(report),
    }
    token = secrets.token_hex(4)
    drafts = {name: directory / f".{name}.{token}" for name in files}
    try:
        for name, text in files.items():
            drafts[name].write_text(text, encoding="utf-8")
        for name, draft in drafts.items():
            draft.replace(directory / name)
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)
    return directory / FILE_NAME
