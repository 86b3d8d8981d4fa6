"""A zip file with several text files is read as the folder of these files would be."""

import gzip
import json
import zipfile
from pathlib import Path

import pytest

from app.__main__ import main
from app.market_data.sources.errors import DataError
from app.market_data.sources.loader import load_files
from app.market_data.tick_table import Columns
from tests.app.market_data.sources.text.test_shapes import frames_of
from tests.support.paths import ROOT

HEAD = "timestamp,symbol,price\n"
FILES: dict[str, str | bytes] = {
    "b.csv": HEAD + "2025-10-01,B,1\n2025-10-03,B,3\n",
    "deep/a.csv.gz": gzip.compress(f"{HEAD}2025-10-02,A,2\n".encode()),
    "c.json": json.dumps([{"timestamp": "2025-10-02", "symbol": "C", "price": 4}]),
}
HIDDEN = {"__MACOSX/._b.csv": "x", ".DS_Store": "x", "deep/.hidden": "x", "deep/": ""}


def archive(path: Path, files: dict[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return path


def refused(path: Path, columns: Columns | None = None) -> str:
    with pytest.raises(DataError) as caught:
        load_files(str(path), columns or Columns())
    return str(caught.value)


def test_it_loads_as_the_folder_of_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, content in FILES.items():
        data = content if isinstance(content, bytes) else content.encode()
        (folder / Path(name).name).write_bytes(data)
    done: list[tuple[int, int]] = []
    packed = archive(tmp_path / "all.zip", FILES | HIDDEN)
    rows = load_files(str(packed), Columns(), lambda *progress: done.append(progress))
    assert [frame.split(b"*")[1:3] for frame in frames_of(rows)] == [
        [b"B", b"1"], [b"C", b"4"], [b"A", b"2"], [b"B", b"3"],
    ]  # fmt: skip
    assert sorted(frames_of(rows)) == sorted(frames_of(load_files(str(folder), Columns())))
    shares = [part / total for part, total in done]
    assert shares == sorted(shares)
    assert shares[-1] <= 1


def test_several_zip_files_and_others(tmp_path: Path) -> None:
    archive(tmp_path / "1.zip", {"a.csv": f"{HEAD}2025-10-01,A,1\n"})
    archive(tmp_path / "2.zip", FILES)
    (tmp_path / "3.csv").write_text(f"{HEAD}2025-10-04,D,5\n")
    assert len(load_files(str(tmp_path), Columns())) == 6
    assert len(load_files(f"{tmp_path}/1.zip,2.zip", Columns())) == 5


def test_the_symbol_of_each_name(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        f"{name}-1m.csv": "timestamp,price\n2025-10-01,1\n" for name in ("aapl", "msft")
    }
    rows = load_files(str(archive(tmp_path / "x.zip", files)), Columns(data_symbol="{file}"))
    assert rows.symbols == ["AAPL", "MSFT"]
    assert "set DATA_SYMBOL='{file}'" in refused(tmp_path / "x.zip")


def test_a_message_names_the_file_in_it(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.zip", {**FILES, "d.csv": f"{HEAD}2025-10-01,D,x\n"})
    assert f"{path}/d.csv:2: price='x': not a number" in refused(path)


@pytest.mark.parametrize("name", ["/etc/passwd", "../../etc/passwd", "a/../../b.csv", "a\nb.csv"])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    path = archive(tmp_path / "x.zip", {**FILES, name: f"{HEAD}2025-10-01,D,1\n"})
    message = refused(path)
    assert message == f"{path}: a file in it has a name that leads elsewhere: {name!r}"


def test_other_formats_in_it_and_damage_are_refused(tmp_path: Path) -> None:
    parquet = (ROOT / "data/examples_binary/ticks.parquet").read_bytes()
    path = archive(tmp_path / "x.zip", {**FILES, "d.parquet": parquet})
    assert f"{path}/d.parquet: of a zip file with several files, only text is read" in refused(path)
    path.write_bytes(path.read_bytes()[:-30])
    assert f"{path}: damaged zip file" in refused(path)
    broken = bytearray(
        archive(path, {**FILES, "e.csv": HEAD + "2025-10-01,E,1\n" * 99}).read_bytes()
    )
    at = broken.find(b"e.csv") + 20
    broken[at : at + 8] = bytes(8)
    path.write_bytes(bytes(broken))
    assert f"{path}/e.csv: damaged" in refused(path)


def test_a_password(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.zip", FILES)
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.find(mark) + offset] |= 1
    path.write_bytes(bytes(data))
    assert "has a password: unpack it" in refused(path)


def test_data_check_says_how_many(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = archive(tmp_path / "x.zip", FILES)
    assert main(["data", "check", str(path)]) == 0
    out = capsys.readouterr().out
    assert f"files        3, of which the first is {path}/b.csv" in out
    assert "loads        yes, as it is" in out
