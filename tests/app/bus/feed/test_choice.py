"""Which version of the map a sequencer appends: with a file, without one, in a run and before."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.bus.feed.choice import Wanted, addition
from app.bus.shard_map import MapError, ShardMap, spread

SYMBOLS = ["AAPL", "F", "KO", "MSFT", "XOM"]


def made(version: int, **shards: str) -> ShardMap:
    """A map; the symbols of a shard are words."""
    lists = {name: symbols.split() for name, symbols in shards.items()}
    return ShardMap.of({"version": version, "shards": lists})


V1 = made(1, a="AAPL KO XOM", b="F MSFT")
MOVED = V1.moved("KO", "b")
THREE = V1.with_shards(["a", "b", "c"])


def dealt(*shards: str) -> Wanted:
    """No file."""
    return Wanted(None, "", shards, SYMBOLS)


def of_file(found: ShardMap, *shards: str) -> Wanted:
    return Wanted(found, "m.json", shards, SYMBOLS)


@pytest.mark.parametrize(
    ("wanted", "latest", "running", "added"),
    [
        # Without a file: the symbols in turn, once.
        (dealt("a", "b"), None, None, V1),
        (dealt("a", "b"), V1, None, None),
        (dealt("a", "b"), V1, V1, None),
        # What was moved stays moved, also in the next run.
        (dealt("a", "b"), MOVED, MOVED, None),
        (dealt("a", "b"), MOVED, None, None),
        # Another shard: in a run without symbols; the next run deals out again.
        (dealt("a", "b", "c"), MOVED, MOVED, MOVED.with_shards(["c"])),
        (dealt("a", "b", "c"), THREE, THREE, None),
        (dealt("a", "b", "c"), THREE, None, made(3, a="AAPL MSFT", b="F XOM", c="KO")),
        (dealt("a"), V1, None, made(2, a="AAPL F KO MSFT XOM")),
        # Other data, in the next run.
        (Wanted(None, "", ("a", "b"), ["X", "Y"]), V1, None, made(2, a="X", b="Y")),
        # With a file: it says it by its version.
        (of_file(V1), None, None, V1),
        (of_file(V1), V1, V1, None),
        (of_file(V1), MOVED, MOVED, None),
        (of_file(MOVED), V1, V1, MOVED),
        (of_file(THREE, "a", "b", "c"), V1, V1, THREE),
    ],
)
def test_what_is_appended(
    wanted: Wanted, latest: ShardMap | None, running: ShardMap | None, added: ShardMap | None
) -> None:
    assert wanted.problem() == ""
    assert addition(wanted, latest, running) == added


@pytest.mark.parametrize(
    ("wanted", "latest", "running", "problem"),
    [
        (of_file(made(1, a="AAPL F KO MSFT XOM")), V1, None, "m.json: is not version 1 of"),
        (dealt("a"), V1, V1, "--shards a: version 1 of the stream MAP has the shards a, b"),
        (of_file(V1, "a", "b"), THREE, THREE, "m.json: version 2 of the stream MAP has the shards"),
        (of_file(made(2, a="AAPL F KO MSFT XOM")), V1, V1, "shard b: the shards of a run stay"),
        (
            of_file(made(2, a="AAPL F KO MSFT", b="", c="XOM")), V1, V1,
            "shard c is new: add it without symbols, then move some to it",
        ),
        (dealt(*"abcdef"), None, None, "the data has 5 symbols, fewer than the shards"),
    ],
)  # fmt: skip
def test_what_contradicts_the_stream_is_refused(
    wanted: Wanted, latest: ShardMap | None, running: ShardMap | None, problem: str
) -> None:
    with pytest.raises(MapError) as refused:
        addition(wanted, latest, running)
    assert problem in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        (of_file(V1, "a", "c"), "SHARD_MAP=m.json: has the shards a, b, and there are a, c: name"),
        (of_file(made(1, a="AAPL F")), "SHARD_MAP=m.json: KO and 2 more: in the data, on no shard"),
        (of_file(made(1, a="AAPL F KO MSFT")), "SHARD_MAP=m.json: XOM: in the data, on no shard"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(wanted: Wanted, problem: str) -> None:
    assert wanted.problem().startswith(problem)


@given(
    st.lists(st.from_regex(r"[A-Z]{1,5}", fullmatch=True), min_size=1, max_size=40, unique=True),
    st.integers(1, 8),
)
def test_dealt_out_each_symbol_is_on_one_shard_and_no_shard_has_two_more_than_another(
    symbols: list[str], count: int
) -> None:
    shards = [f"s{number}" for number in range(count)]
    if len(symbols) < count:
        with pytest.raises(MapError, match="fewer than the shards"):
            spread(symbols, shards, 1)
        return
    found = spread(symbols, shards, 1)
    assert ShardMap.of({"version": 1, "shards": {n: list(s) for n, s in found.shards.items()}})
    assert found.symbols == sorted(symbols)
    sizes = [len(each) for each in found.shards.values()]
    assert max(sizes) - min(sizes) <= 1
