"""JSON arrays of objects: the same rows as JSON lines, whatever the spaces and the chunks."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.config.settings import Settings
from app.market_data.inspect.trial import try_to_load
from app.market_data.sources.loader import describe
from app.market_data.sources.text import json_lines
from app.market_data.sources.text.json_array import ArrayCutter
from app.market_data.tick_table import Columns
from tests.app.market_data.sources.text.test_shapes import PACKS, frames_of, load, refusal

GOOD = {"timestamp": "2025-10-01 09:30:00", "symbol": "AAPL", "price": 173.2}
NEXT = GOOD | {"price": "174.10"}
FRAMES = [b"2025-10-01 09:30:00*AAPL*173.2*", b"2025-10-01 09:30:00*AAPL*174.10*"]


@pytest.mark.parametrize("indent", [None, 0, 2])
@pytest.mark.parametrize("around", ["{}", "\n  {} \r\n"])
def test_forms(tmp_path: Path, indent: int | None, around: str) -> None:
    text = around.replace("{}", json.dumps([GOOD, NEXT], indent=indent))
    assert frames_of(load(tmp_path, text)) == FRAMES


@pytest.mark.parametrize("name", PACKS)
def test_packed_and_in_utf_16(tmp_path: Path, name: str) -> None:
    text = json.dumps([GOOD | {"note": "größer €"}, NEXT], ensure_ascii=False)
    assert frames_of(load(tmp_path, PACKS[name](text.encode("utf-16")))) == FRAMES


def test_what_it_is_called(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(json.dumps([GOOD]))
    found = dict(describe(path, Columns()))
    assert found["format"] == "a JSON array, UTF-8"
    assert found["columns"] == "timestamp, symbol, price"


def test_other_names_and_members_of_members(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"t": {"when": 1759311000000, "px": 1.5}, "sym": "A"}]))
    trial = try_to_load(Settings(data_path=str(path)))
    assert trial.rows is not None
    assert frames_of(trial.rows) == [b"2025-10-01 09:30:00*A*1.5*"]


def test_a_wrong_row_is_named_by_its_place(tmp_path: Path) -> None:
    message = refusal(tmp_path, json.dumps([GOOD, GOOD | {"price": "x"}], indent=1))
    assert ":2: price='x': not a number" in message
    assert "SKIP_BAD_ROWS=true" in message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[{0}", "damaged JSON array: it ends within element 2"),
        ("[{0},{1", "damaged JSON array: it ends within element 2"),
        ("[{0}, 5]", "damaged JSON array: element 2 is no object: '5]'"),
        ("[{0}] x", "damaged JSON array: text after the array: 'x'"),
        ("[{0},{1]", "damaged JSON array: it ends within element 2"),
        ('[{0},{"a": "' + "x" * 3_000_000, "damaged JSON array: element 2: "),
    ],
)
def test_damage(tmp_path: Path, text: str, reason: str) -> None:
    assert reason in refusal(tmp_path, text.replace("{0}", json.dumps(GOOD)))


MEMBERS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda each: (
        st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=4), each, max_size=3)
    ),
    max_leaves=6,
)


@given(
    st.lists(st.dictionaries(st.text(max_size=4), MEMBERS, max_size=4), min_size=1, max_size=8),
    st.integers(1, 40),
    st.sampled_from([None, 1]),
    st.booleans(),
)
def test_objects_are_cut_whole_from_pieces_of_any_size(
    objects: list[dict[str, object]], size: int, indent: int | None, escaped: bool
) -> None:
    data = json.dumps(objects, indent=indent, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    cutter, found = ArrayCutter(), []
    for at in range(0, len(data), size):
        found += cutter.feed(data[at : at + size])
    cutter.finish()
    assert [json.loads(text.decode("utf-8", "surrogatepass")) for text in found] == objects


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=30), st.integers(20, 400))
def test_an_array_is_its_lines(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, prices: list[int], chunk: int
) -> None:
    monkeypatch.setattr(json_lines, "CHUNK_BYTES", chunk)
    rows = [GOOD | {"price": price / 100} for price in prices]
    lines = frames_of(load(tmp_path, "".join(json.dumps(row) + "\n" for row in rows)))
    assert frames_of(load(tmp_path, json.dumps(rows))) == lines
