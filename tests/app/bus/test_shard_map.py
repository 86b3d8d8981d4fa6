import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.bus.shard_map import MapError, ShardMap, load, parse

SOUND = {
    "version": 1,
    "shards": {"a": ["AAPL", "MSFT", "F"], "b": ["GOOG"]},
    "groups": {"tech": ["AAPL", "MSFT"]},
}
names = st.from_regex(r"[A-Z]{1,5}", fullmatch=True)


@st.composite
def maps(draw: st.DrawFn) -> ShardMap:
    """A sound map of up to five shards, with groups."""
    symbols = draw(st.lists(names, min_size=1, max_size=12, unique=True))
    shards: dict[str, list[str]] = {f"s{n}": [] for n in range(draw(st.integers(1, 5)))}
    for symbol in symbols:
        shards[draw(st.sampled_from(sorted(shards)))].append(symbol)
    groups = {}
    for shard, members in shards.items():
        if members and draw(st.booleans()):
            groups[f"group-{shard}"] = members[: draw(st.integers(1, len(members)))]
    return ShardMap.of({"version": draw(st.integers(1, 99)), "shards": shards, "groups": groups})


@given(maps())
def test_a_map_is_what_its_text_says(found: ShardMap) -> None:
    assert parse(found.encoded()) == found
    assert [found.shard_of(each) in found.shards for each in found.symbols]


@given(maps(), st.data())
def test_a_move_keeps_every_symbol_exactly_once_and_groups_together(
    found: ShardMap, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from([*found.symbols, *found.groups]))
    to = data.draw(st.sampled_from(sorted(found.shards)))
    members = set(found.groups.get(name, (name,)))
    before = {symbol: found.shard_of(symbol) for symbol in found.symbols}
    try:
        later = found.moved(name, to)
    except MapError:
        grouped = {each for group in found.groups.values() for each in group}
        assert before[min(members)] == to or (name not in found.groups and name in grouped)
        return
    assert ShardMap.of(json.loads(later.encoded())) == later  # all checks hold
    assert found.successor_problem(later) == ""
    after = {symbol: later.shard_of(symbol) for symbol in later.symbols}
    assert after == before | dict.fromkeys(members, to)


def changed(**members: object) -> dict[str, object]:
    """The sound map with other members."""
    return SOUND | members


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ([], "must be an object with version, shards and perhaps groups"),
        (changed(colour="red"), "must be an object with version, shards and perhaps groups"),
        (changed(version="1"), "version must be a whole number from 1 to 1000000"),
        (changed(version=True), "version must be a whole number from 1 to 1000000"),
        (changed(version=0), "version must be a whole number from 1 to 1000000"),
        (changed(shards={}), "shards has no symbol"),
        (changed(shards={"a": []}, groups={}), "shards has no symbol"),
        (changed(shards={"A": ["F"]}), "shards: 'A' must be 1 to 32 of a-z 0-9 -"),
        (changed(shards={"a": "F"}), "shards: a must be a list of symbols"),
        (changed(shards={"a": [1]}), "shards: a must be a list of symbols"),
        (
            changed(shards={"a": ["F", "F"]}),
            "F is on shard a twice: every symbol is on exactly one",
        ),
        (
            changed(shards={"a": ["F"], "b": ["F"]}),
            "F is on shard a and b: every symbol is on exactly one",
        ),
        (changed(shards={"a": ["F*"]}), "shard a: 'F*': symbol with a delimiter"),
        (changed(groups={"x": []}), "group x has no symbol"),
        (changed(groups={"F": ["F"]}), "group F has the name of a symbol: rename it"),
        (changed(groups={"x": ["IBM"]}), "group x: IBM is on no shard"),
        (
            changed(groups={"x": ["F"], "y": ["F"]}),
            "F is in the groups x and y: one is enough",
        ),
        (changed(groups={"x": ["F", "GOOG"]}), "group x is on the shards a, b: it must be on one"),
    ],
)
def test_an_unsound_map_is_refused_with_one_line(value: object, problem: str) -> None:
    with pytest.raises(MapError) as refused:
        ShardMap.of(value)
    assert str(refused.value).startswith(problem)
    assert "\n" not in str(refused.value)


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["version", "shards", "groups", "a"]), inner, max_size=4
            )
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_whatever_the_text_is_it_is_a_map_or_one_line(text: bytes) -> None:
    problem = ""
    try:
        parse(text)
    except MapError as error:
        problem = str(error)
    assert "\n" not in problem


def test_a_name_that_is_there_twice_is_refused() -> None:
    with pytest.raises(MapError, match="'a' is there twice"):
        parse(b'{"version": 1, "shards": {"a": ["F"], "a": ["GOOG"]}}')


def test_a_file_is_named_with_what_is_wrong_in_it(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    with pytest.raises(MapError, match=f"SHARD_MAP={path}: "):
        load(str(path))
    path.write_text("{")
    with pytest.raises(MapError, match=f"SHARD_MAP={path}: no JSON"):
        load(str(path))
    path.write_text(json.dumps(SOUND))
    assert load(str(path)).shard_of("F") == "a"
    with pytest.raises(MapError, match="SHARD_MAP=: required"):
        load("")


def test_what_cannot_be_moved_is_said() -> None:
    found = ShardMap.of(SOUND)
    for name, to, problem in (
        ("F", "c", "no shard 'c': one of a, b"),
        ("IBM", "b", "IBM is on no shard"),
        ("F", "a", "F is on shard a already"),
        ("AAPL", "b", "AAPL is of group tech, which stays together: move tech"),
    ):
        with pytest.raises(MapError, match=problem):
            found.moved(name, to)
    assert found.moved("tech", "b").shards == {"a": ("F",), "b": ("GOOG", "AAPL", "MSFT")}


def test_within_a_run_shards_and_symbols_stay() -> None:
    found = ShardMap.of(SOUND)
    for value, problem in (
        (SOUND, "version 1 does not follow version 1"),
        (
            {"version": 2, "shards": {"a": ["AAPL", "MSFT", "F", "GOOG"]}},
            "shard b: the shards of a run stay",
        ),
        (
            {"version": 2, "shards": {"a": ["AAPL", "MSFT", "F"], "b": ["IBM"]}},
            "GOOG: the symbols of a run stay",
        ),
        (
            {"version": 2, "shards": {"a": ["AAPL", "MSFT"], "b": ["GOOG"], "c": ["F"]}},
            "shard c is new: add it without symbols",
        ),
    ):
        assert found.successor_problem(ShardMap.of(value)).startswith(problem)
    assert found.successor_problem(found.with_shards(["b", "c"])) == ""
    assert found.with_shards(["b", "c"]).moved("F", "c").shards["c"] == ("F",)
