"""The files of ``--save``, read by another library, are the tables of ``run()``."""

import json
import sys
from pathlib import Path

import pandas
import pytest

from app.__main__ import main
from app.backtest import run
from app.backtest.results.run_result import BacktestResult
from tests.support.paths import ROOT

parquet = pytest.importorskip("pyarrow.parquet")

SAMPLE = ROOT / "data" / "market_data.csv"
NAMES = ["trades", "orders", "equity", "positions", "daily"]
LIMITS = {"risk_client_notional_max": 1500.0, "paper_fee_bps": 1.0}


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def same(result: BacktestResult, folder: Path) -> None:
    for name in NAMES:
        found, ours = pandas.read_parquet(folder / f"{name}.parquet"), getattr(result, name)
        if "date" in ours:
            found["date"] = pandas.to_datetime(found["date"])
        assert list(found) == list(ours)
        pandas.testing.assert_frame_equal(
            found.convert_dtypes(), ours.convert_dtypes(), check_exact=True, check_dtype=False
        )


def test_files_are_the_tables(tmp_path: Path) -> None:
    result = run(data=SAMPLE, **LIMITS)
    written = result.to_parquet(tmp_path / "a" / "b")
    assert sorted(each.name for each in written) == sorted(
        [*(f"{name}.parquet" for name in NAMES), "report.json"]
    )
    same(result, tmp_path / "a" / "b")
    schema = parquet.read_schema(tmp_path / "a/b/trades.parquet")
    assert str(schema.field("time_utc").type) == "timestamp[ns, tz=UTC]"
    assert str(parquet.read_schema(tmp_path / "a/b/daily.parquet").field("date").type) == (
        "date32[day]"
    )
    noted = parquet.read_metadata(tmp_path / "a/b/trades.parquet").metadata
    facts = {key.decode(): value.decode() for key, value in noted.items()}
    assert facts["trades_hash"] == result.trades_hash
    assert facts["params"] == result.params
    refused = parquet.read_table(tmp_path / "a/b/orders.parquet").filter(
        parquet.read_table(tmp_path / "a/b/orders.parquet")["code"].is_valid()
    )
    assert refused.num_rows == result.metrics["refused_orders"] > 0
    assert refused["avg_price"].null_count == refused.num_rows, "no price is null, not nan"


def test_a_run_without_orders_has_all_columns(tmp_path: Path) -> None:
    result = run(data=SAMPLE, ticks=3)
    result.to_parquet(tmp_path)
    for name in ("trades", "orders", "positions"):
        found = parquet.read_table(tmp_path / f"{name}.parquet")
        assert found.num_rows == 0
        assert found.column_names == list(getattr(result, name))


def test_the_command_saves_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                    capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    for name, value in LIMITS.items():
        monkeypatch.setenv(name.upper(), str(value))
    arguments = ["--data", str(SAMPLE), "--out", "out", "--no-plot", "--capital", "50000"]
    assert main(["backtest", *arguments, "--save", "saved"]) == 0
    result = run(data=SAMPLE, capital=50_000, **LIMITS)
    same(result, tmp_path / "saved")
    shown = capsys.readouterr().out
    assert "trades: saved/trades.parquet" in shown
    found = json.loads((tmp_path / "saved" / "report.json").read_text())
    assert found["trades_hash"] == result.trades_hash
    assert found["metrics"] == dict(result.metrics)
    assert found["settings"] == {"PAPER_FEE_BPS": "1.0", "RISK_CLIENT_NOTIONAL_MAX": "1500.0"}
    assert found["data"]["sha256"] == result.data.sha256
    assert found["data"]["first_utc"] == "2025-10-01T09:30:00.000000000Z"
    assert found["machine"]["cpus"] >= 1


def test_what_stops_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    arguments = ["--data", str(SAMPLE), "--out", "out", "--no-plot"]
    assert main(["backtest", *arguments, "--save", "file"]) == 1
    assert "file" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "arro3.io", None)
    assert main(["backtest", *arguments, "--save", "saved"]) == 1
    assert "pip install arro3-io" in capsys.readouterr().err
