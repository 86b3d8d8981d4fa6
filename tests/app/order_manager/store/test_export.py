"""Export to CSV and Parquet."""

import csv
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from app.__main__ import main
from app.model.wire.order_json import decode
from app.order_manager.store import export
from tests.support.orders.frames import ORDER
from tests.support.orders.manager import Manager, some_orders


def test_export_csv(path: Path, tmp_path: Path) -> None:
    some_orders(path)
    assert main(["store", "--store", str(path), "export", str(tmp_path / "out")]) == 0
    tables = {}
    for name in ("orders", "fills", "positions"):
        with (tmp_path / "out" / f"{name}.csv").open(newline="") as file:
            tables[name] = list(csv.DictReader(file))
    assert len(tables["orders"]) == 22
    assert len(tables["fills"]) == 20
    first = tables["orders"][0]
    assert (first["side"], first["price"], first["status"]) == ("SELL", "173.20", "Filled")
    assert tables["orders"][20]["code"] == "QTY_MAX"
    assert (tables["orders"][21]["ts"], tables["orders"][21]["status"]) == ("a,*", "New")
    assert {row["client"] for row in tables["positions"]} == {"c0", "c1"}
    assert (
        main(["store", "--store", str(path), "export", str(tmp_path / "no"), "--run-id", "other"])
        == 0
    )
    assert len((tmp_path / "no" / "orders.csv").read_text().splitlines()) == 1


def test_no_cell_of_a_csv_file_is_a_formula(path: Path, tmp_path: Path) -> None:
    manager = Manager(path)
    names = ["=1+1", "+1", "-1", "@A1", "plain"]
    for name in names:
        manager.ask({**ORDER, "client": name, "ts": f"{name[:1]}cmd()"})
    manager.close()
    assert main(["store", "--store", str(path), "export", str(tmp_path)]) == 0
    for table in ("orders", "fills", "positions"):
        with (tmp_path / f"{table}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == len(names)
        assert [c for row in rows for c in row.values() if c[:1] in set("=+-@")] == []
        assert sorted(row["client"].removeprefix("'") for row in rows) == sorted(names)


def test_export_parquet(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read by another library, it is the CSV file with exact decimals."""
    parquet = pytest.importorskip("pyarrow.parquet")
    some_orders(path)
    out = str(tmp_path / "out")
    assert main(["store", "--store", str(path), "export", out]) == 0
    monkeypatch.setattr(export, "BATCH_ROWS", 7)
    assert main(["store", "--store", str(path), "export", out, "--format", "parquet"]) == 0
    for name, columns in export.COLUMNS.items():
        found = parquet.read_table(tmp_path / "out" / f"{name}.parquet")
        with (tmp_path / "out" / f"{name}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert found.num_rows == len(rows) > 0
        assert found.column_names == list(columns)
        for column, kind in columns.items():
            values = found.column(column).to_pylist()
            texts = [row[column] for row in rows]
            if kind in ("money", "amount"):
                assert values == [Decimal(text) if text else None for text in texts], column
            else:
                assert ["" if value is None else str(value) for value in values] == texts, column
    price = found.schema.field("mark").type
    assert (price.precision, price.scale) == (38, 9)


def test_an_empty_store_exports_empty_tables(path: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    some_orders(path)
    arguments = ["export", str(tmp_path / "no"), "--run-id", "other", "--format", "parquet"]
    assert main(["store", "--store", str(path), *arguments]) == 0
    for name, columns in export.COLUMNS.items():
        found = parquet.read_table(tmp_path / "no" / f"{name}.parquet")
        assert (found.num_rows, found.column_names) == (0, list(columns))


def test_without_the_package_it_is_named(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    some_orders(path)
    monkeypatch.setitem(sys.modules, "arro3.io", None)
    arguments = ["export", str(tmp_path / "out"), "--format", "parquet"]
    assert main(["store", "--store", str(path), *arguments]) == 1
    assert "pip install arro3-io" in capsys.readouterr().err


def test_an_exported_time_is_exact_whatever_its_form(path: Path, tmp_path: Path) -> None:
    manager = Manager(path)
    times = ["1759311000.123456789", '"2025-10-01 09:30:00.123456789"', "1759311000", "1e300"]
    for number, ts in enumerate(times):
        manager.service.begin()
        body = f'{{"side":"BUY","symbol":"A","qty":1,"price":2,"id":{number},"ts":{ts}}}'
        manager.service.handle(0, decode(body.encode()))
        assert f'"ts":{ts}'.encode() in manager.service.finish()[0][1]
    manager.close()
    assert main(["store", "--store", str(path), "export", str(tmp_path)]) == 0
    with (tmp_path / "orders.csv").open(newline="") as file:
        found = [row["ts"] for row in csv.DictReader(file)]
    exact = "2025-10-01 09:30:00.123456789"
    assert found == [exact, exact, "2025-10-01 09:30:00", "1e300"]
