"""Expectations of a run, and its report for machines."""

import json
import os
import secrets
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from app.config.settings import Settings, SettingsError
from app.runtime.metrics import report, report_files
from app.runtime.metrics.expectations import bits_of_money, money_of_bits
from app.runtime.metrics.process_metrics import ProcessMetrics
from app.shared_memory_utils.segment import SHM_DIRECTORY

HASH = "00000000000000ff"


@pytest.fixture
def settings() -> Iterator[Settings]:
    name = f"test_verdict_{os.getpid()}_{secrets.token_hex(4)}"
    yield Settings(shm_metrics=name, replay="once")
    (SHM_DIRECTORY / name).unlink(missing_ok=True)


@pytest.fixture
def run(settings: Settings) -> Iterator[dict[str, ProcessMetrics]]:
    """100 ticks; 40 orders, 38 filled and 2 refused."""
    names = ("gateway", "orderbook", "strategy", "order_manager")
    stack = {name: ProcessMetrics.open(settings.shm_metrics, name) for name in names}
    for metrics in stack.values():
        metrics.set_state("done")
    stack["gateway"].set("ticks_total", 100)
    stack["gateway"].set("ticks_sent", 100)
    stack["orderbook"].set("ticks_received", 100)
    values = {"ticks_consumed": 100, "run_orders": 40, "run_filled": 38, "run_refused": 2}
    values |= {"trades_hash": 255, "run_pnl": bits_of_money(-12.5), "run_pnl_known": 1}
    for name, value in values.items():
        stack["strategy"].set(name, value)
    yield stack
    for metrics in stack.values():
        metrics.close()


@pytest.mark.parametrize(
    ("met", "missed", "reason"),
    [
        (
            {"expect_orders_min": 40},
            {"expect_orders_min": 41},
            "EXPECT_ORDERS_MIN=41: strategy sent 40 orders",
        ),
        (
            {"expect_fills_min": 38},
            {"expect_fills_min": 39},
            "EXPECT_FILLS_MIN=39: strategy had 38 of 40 orders filled",
        ),
        (
            {"expect_refused_max": "2"},
            {"expect_refused_max": "1"},
            "EXPECT_REFUSED_MAX=1: strategy had 2 of 40 orders refused",
        ),
        (
            {"expect_pnl_min": "-12.5"},
            {"expect_pnl_min": "-12.499999"},
            "EXPECT_PNL_MIN=-12.499999: strategy made -12.50",
        ),
        (
            {"expect_pnl_max": "-12.5"},
            {"expect_pnl_max": "-12.500001"},
            "EXPECT_PNL_MAX=-12.500001: strategy made -12.50",
        ),
        (
            {"expect_trades_hash": HASH},
            {"expect_trades_hash": "f" * 16},
            f"EXPECT_TRADES_HASH={'f' * 16}: strategy has {HASH}",
        ),
    ],
)
def test_an_expectation_is_met_or_missed(
    settings: Settings,
    run: dict[str, ProcessMetrics],
    met: dict[str, object],
    missed: dict[str, object],
    reason: str,
) -> None:
    found = report.collect(msgspec.structs.replace(settings, **met))
    assert (found.exit_code, found.verdict) == (0, report.COMPLETE)
    found = report.collect(msgspec.structs.replace(settings, **missed))
    assert (found.exit_code, found.verdict) == (4, f"Expectation missed: {reason}.")


def test_an_unknown_pnl_meets_no_expectation(
    settings: Settings, run: dict[str, ProcessMetrics]
) -> None:
    run["strategy"].set("run_pnl_known", 0)
    for expected in ({"expect_pnl_min": "-1000"}, {"expect_pnl_max": "1000"}):
        found = report.collect(msgspec.structs.replace(settings, **expected))
        assert found.exit_code == 4
        assert "strategy has no PnL" in found.verdict


@pytest.mark.parametrize("amount", [0.0, -0.01, 12.5, -9e15, 1e300])
def test_money_survives_a_counter(amount: float) -> None:
    word = bits_of_money(amount)
    assert 0 <= word < 1 << 64
    assert money_of_bits(word) == amount


@pytest.mark.parametrize("text", ["-250.5", "0", "1000000"])
def test_an_amount_of_money_is_a_setting(text: str) -> None:
    found = Settings.from_environ({"REPLAY": "once", "EXPECT_PNL_MIN": text})
    assert found.expect_pnl_min == text


@pytest.mark.parametrize("text", ["much", "1e9", "--1", "1,000", "nan", "5."])
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"EXPECT_PNL_MAX=.*: must be an amount of money"):
        Settings.from_environ({"REPLAY": "once", "EXPECT_PNL_MAX": text})


def test_the_lowest_pnl_is_not_above_the_highest() -> None:
    with pytest.raises(SettingsError, match="EXPECT_PNL_MIN=10: must not be above"):
        Settings.from_environ({"REPLAY": "once", "EXPECT_PNL_MIN": "10", "EXPECT_PNL_MAX": "9.99"})


def test_a_report_without_figures(tmp_path: Path) -> None:
    """The three files are there for a run whose processes did not start, too."""
    refused = report.of_failure("invalid settings: PACE=fast: must be max", refused=True)
    assert (refused.exit_code, refused.verdict) == (
        2,
        "invalid settings: PACE=fast: must be max.",
    )
    assert report.of_failure("no strategy has started").exit_code == 3
    fault = report.of_failure("a\x00b", fault=True)
    assert (fault.exit_code, fault.verdict) == (1, "Incomplete: a b.")
    report_files.write(fault, tmp_path)
    assert report_files.read(tmp_path) == fault
    assert "PnL" not in report.to_text(fault)
    (tmp_path / "report.json").write_text("{")
    assert report_files.read(tmp_path) is None


def test_each_strategy_must_meet_it(settings: Settings, run: dict[str, ProcessMetrics]) -> None:
    second = ProcessMetrics.open(settings.shm_metrics, "strategy")
    second.set("ticks_consumed", 100)
    found = report.collect(msgspec.structs.replace(settings, expect_orders_min=40))
    assert found.missed == ["EXPECT_ORDERS_MIN=40: strategy#2 sent 0 orders"]
    second.close()


@pytest.mark.parametrize(("orders", "refused", "code"), [(40, 40, 4), (40, 39, 0), (0, 0, 0)])
def test_a_run_with_every_order_refused_fails_by_default(
    settings: Settings, run: dict[str, ProcessMetrics], orders: int, refused: int, code: int
) -> None:
    run["strategy"].set("run_orders", orders)
    run["strategy"].set("run_refused", refused)
    assert report.collect(settings).exit_code == code
    allowed = msgspec.structs.replace(settings, expect_refused_max="40")
    assert report.collect(allowed).exit_code == 0


def test_an_endless_run_has_no_expectations(run: dict[str, ProcessMetrics]) -> None:
    name = next(iter(run.values()))._segment.name
    found = report.collect(Settings(shm_metrics=name))
    assert (found.expectations, found.exit_code) == ([], 0)


def test_skipped_rows_are_shown_and_are_not_missing(
    settings: Settings, run: dict[str, ProcessMetrics]
) -> None:
    run["gateway"].set("rows_skipped", 4)
    found = report.collect(settings)
    assert (found.exit_code, found.problems) == (0, [])
    assert "bad rows skipped  4" in report.to_text(found)


def test_a_run_that_is_cut_short_names_the_reason_and_what_is_missing(
    settings: Settings, run: dict[str, ProcessMetrics]
) -> None:
    run["strategy"].set("ticks_consumed", 60)
    found = report.collect(settings, "stopped by SIGTERM")
    assert found.exit_code == 3
    assert found.verdict == ("Incomplete: stopped by SIGTERM; strategy consumed 60 of 100 ticks.")
    assert report.collect(settings, "a bug", fault=True).exit_code == 1


def test_the_files_agree(
    settings: Settings, run: dict[str, ProcessMetrics], tmp_path: Path
) -> None:
    wanted = msgspec.structs.replace(settings, expect_orders_min=41, expect_fills_min=1)
    found = report.collect(wanted)
    report_files.write(found, tmp_path)
    as_json = json.loads((tmp_path / "report.json").read_text())
    assert as_json["verdict"] == found.verdict
    assert (as_json["exit_code"], as_json["trades_hash"]) == (4, HASH)
    assert set(found.__struct_fields__) < set(as_json)
    assert as_json["orders"][0]["filled"] == 38
    suite = ET.parse(tmp_path / "junit.xml").getroot()
    assert [suite.get(key) for key in ("tests", "failures", "skipped")] == ["4", "1", "0"]
    failed = [case.get("name") for case in suite if case.find("failure") is not None]
    assert failed == ["EXPECT_ORDERS_MIN=41"]
    first = (tmp_path / "performance_report.md").read_text().splitlines()[0]
    assert first == f"**{found.verdict}**"


def test_any_reason_gives_one_line_and_valid_xml(
    settings: Settings, run: dict[str, ProcessMetrics]
) -> None:
    found = report.collect(settings, 'ValueError: <a> & "b"\nc \x1b[0m\0')
    assert found.verdict == 'Incomplete: ValueError: <a> & "b" c  [0m .'
    case = ET.fromstring(report_files.to_junit(found))[0]
    assert case[0].get("message") == found.problems[0]


def test_an_incomplete_run_skips_its_expectations(
    settings: Settings, run: dict[str, ProcessMetrics]
) -> None:
    run["strategy"].set("ticks_lost", 1)
    suite = ET.fromstring(report_files.to_junit(report.collect(settings)))
    assert [case.get("name") for case in suite] == ["completeness", "EXPECT_REFUSED_MAX"]
    assert [case[0].tag for case in suite] == ["failure", "skipped"]


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        ({"EXPECT_ORDERS_MIN": "1"}, "EXPECT_ORDERS_MIN=1: applies to a run that ends"),
        ({"DEADLINE_S": "60", "REPLAY": "loop"}, "DEADLINE_S=60.0: applies to a run that ends"),
        ({"EXPECT_TRADES_HASH": "xyz"}, "EXPECT_TRADES_HASH=xyz: must be 16 hex digits"),
        (
            {"EXPECT_TRADES_HASH": HASH, "REPLAY": "once", "TRADING_MODE": "live"},
            f"EXPECT_TRADES_HASH={HASH}: only a run with",
        ),
    ],
)
def test_an_expectation_that_would_not_be_checked_is_refused(
    environ: dict[str, str], line: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ(environ)
    assert str(caught.value).startswith(line)
