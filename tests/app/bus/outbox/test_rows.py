"""Which messages come out of a store, in which order, wherever reading is cut and begun again."""

import itertools
import json
import random
import shutil
import time
from pathlib import Path

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.bus.outbox.rows import NO_DIGESTS, Item, Marks, items
from app.bus.outbox.store_reader import StoreReader
from app.model.orders import STATUS_NAMES
from tests.support.bus.history import History, expected, published


def read(reader: StoreReader, marks: Marks, limit: int | None = None) -> list[Item]:
    """All that comes after ``marks``, or the first ``limit`` of it."""
    found: list[Item] = []
    digests = NO_DIGESTS
    while True:
        page = list(itertools.islice(items(reader.page(marks), marks, digests), limit))
        found += page
        if not page or limit is not None:
            return found
        marks, digests = page[-1].marks, page[-1].digests


def messages(found: list[Item]) -> list[dict]:
    return [json.loads(item.body) for item in found]


@given(seed=st.integers(0, 10_000), batches=st.integers(1, 40), rows=st.integers(1, 40))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_each_row_comes_once_wherever_reading_is_cut(
    tmp_path_factory: pytest.TempPathFactory, seed: int, batches: int, rows: int
) -> None:
    path = tmp_path_factory.mktemp("store") / "orders.sqlite3"
    rng = random.Random(seed)
    history, reader = History(path, seed), StoreReader(str(path), page_rows=rows)
    last = reader.last()
    assert last is not None
    marks = Marks(last.store)
    found: list[Item] = []
    while batches:
        step = rng.randint(1, batches)
        batches -= step
        history.grow(step)
        if rng.random() < 0.5:
            reader.close()
        # As a publisher that dies after any message, and begins again at its marks.
        part = read(reader, marks, rng.choice((None, rng.randint(1, 5))))
        found += part
        marks = part[-1].marks if part else marks
    found += read(reader, marks)
    assert published(messages(found)) == expected(path)
    assert (found[-1].marks if found else marks) == reader.last()
    assert len({item.msg_id for item in found}) == len(found)
    # The same row has the same place for whoever reads all of it at once.
    whole = StoreReader(str(path), page_rows=10_000)
    at_once = read(whole, Marks(last.store))
    assert [item.marks for item in found] == [item.marks for item in at_once]
    for before, after in itertools.pairwise(found):
        assert whole.follows(after.marks, before.marks)
        assert not whole.follows(before.marks, after.marks)
    whole.close()
    history.close()
    reader.close()


@given(seed=st.integers(0, 10_000), rows=st.integers(1, 20))
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_store_finds_the_digests_that_were_sent(
    tmp_path_factory: pytest.TempPathFactory, seed: int, rows: int
) -> None:
    path = tmp_path_factory.mktemp("store") / "orders.sqlite3"
    history, reader = History(path, seed), StoreReader(str(path), page_rows=rows)
    history.grow(12)
    last = reader.last()
    assert last is not None
    found = read(reader, Marks(last.store))
    for item in found:
        assert reader.digests(item.marks) == item.digests
    assert reader.digests(last._replace(orders=last.orders + 1)).order == ""
    history.close()
    reader.close()


@given(seed=st.integers(0, 10_000), shared=st.integers(0, 10), more=st.integers(1, 10))
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_digests_tell_a_copy_that_has_gone_on_by_itself(
    tmp_path_factory: pytest.TempPathFactory, seed: int, shared: int, more: int
) -> None:
    """Its next orders are the very same but for their time, as of a strategy that sends again."""
    path = tmp_path_factory.mktemp("store") / "orders.sqlite3"
    copy = path.with_name("copy.sqlite3")
    history = History(path, seed)
    history.grow(shared)
    history.close()
    shutil.copy(path, copy)
    readers = StoreReader(str(path)), StoreReader(str(copy))
    common = readers[0].last()
    for each in (path, copy):
        history = History(each, seed + 1)
        history.grow(more)
        history.close()
    marks = readers[0].last()
    assert common is not None
    assert marks is not None
    ours, others = (reader.digests(marks) for reader in readers)
    for before, now, mine, other in zip(common[1:], marks[1:], ours, others, strict=True):
        assert (mine != other) == (now > before)
    for reader in readers:
        reader.close()


def test_the_history_has_all_that_is_to_be_tested(tmp_path: Path) -> None:
    """Else the test above would show little."""
    history = History(tmp_path / "orders.sqlite3", 1)
    history.grow(300)
    history.close()
    kinds = expected(tmp_path / "orders.sqlite3")
    status = {row[7] for row in kinds["orders"]}
    assert status >= {"New", "PartiallyFilled", "Filled", "Canceled", "Rejected", "Denied"}
    assert {row[3] for row in kinds["changes"]} == {"PartiallyFilled", "Filled", "Canceled"}
    fills = [row[2] for row in kinds["fills"]]
    assert len(set(fills)) < len(fills), "an order in several parts"
    assert fills != sorted(fills), "a fill of an older order after that of a newer one"


def test_the_last_change_of_an_order_is_its_state(tmp_path: Path) -> None:
    path = tmp_path / "orders.sqlite3"
    history = History(path, 2)
    history.grow(200)
    kinds = expected(path)
    states = {row[1]: row[7:9] for row in kinds["orders"]} | {
        row[2]: row[3:] for row in kinds["changes"]
    }
    orders = history.store.query("WHERE 1", ())
    assert {o.order_no: (STATUS_NAMES[o.status], o.filled_qty) for o in orders} == states
    history.close()


@given(seed=st.integers(0, 10_000), rows=st.integers(1, 20))
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_row_is_missing_of_a_store_whose_clock_went_back(
    tmp_path_factory: pytest.TempPathFactory, seed: int, rows: int
) -> None:
    """As earlier versions could after a restart; the fills of an hour ahead come all the same."""
    path = tmp_path_factory.mktemp("store") / "orders.sqlite3"
    history, reader = History(path, seed), StoreReader(str(path), page_rows=rows)
    history.grow(15, lambda: time.time_ns() + 3_600_000_000_000)
    history.grow(30)
    last = reader.last()
    assert last is not None
    found = read(reader, Marks(last.store))
    assert published(messages(found)) == expected(path)
    history.close()
    reader.close()


def test_marks_follow_those_of_the_row_before_unless_there_are_others_between(
    tmp_path: Path,
) -> None:
    path = tmp_path / "orders.sqlite3"
    history, reader = History(path, 3), StoreReader(str(path))
    history.grow(30)
    history.close()
    before = Marks("abcd", 3, 2, 0)
    for numbers in ((4, 2, 0), (3, 3, 0), (3, 2, 1)):
        assert reader.follows(Marks("abcd", *numbers), before)
    for numbers in ((3, 2, 0), (5, 2, 0), (4, 3, 0), (2, 2, 0), (3, 4, 0), (4, 2, 1), (3, 2, 2)):
        assert not reader.follows(Marks("abcd", *numbers), before)
    db = apsw.Connection(str(path))
    db.execute("DELETE FROM executions WHERE fill_no = 3")
    db.execute("UPDATE orders SET exec_count = 0 WHERE exec_first = 3 AND exec_count = 1")
    db.execute(
        "DELETE FROM orders WHERE order_no = 4; DELETE FROM order_changes WHERE change_no = 1"
    )
    for numbers in ((5, 2, 0), (3, 4, 0), (3, 2, 2)):
        assert reader.follows(Marks("abcd", *numbers), before)
    db.close()
    reader.close()


def test_marks_are_read_back_and_nonsense_is_not() -> None:
    marks = Marks("abcd", 3, 2, 1)
    assert Marks.parse(marks.text()) == marks
    for wrong in ("", "abcd", "abcd:1:2", "abcd:1:2:x", ":1:2:3", "abcd:-1:2:3", "a:1:2:3:4"):
        with pytest.raises(ValueError):  # noqa: PT011
            Marks.parse(wrong)


def test_no_store_and_one_of_an_earlier_version_have_nothing_yet(tmp_path: Path) -> None:
    path = tmp_path / "orders.sqlite3"
    reader = StoreReader(str(path))
    assert reader.last() is None
    assert read(reader, Marks("-")) == []
    History(path).close()
    connection = apsw.Connection(str(path))
    connection.pragma("user_version", 6)
    connection.close()
    assert reader.last() is None
    connection = apsw.Connection(str(path))
    connection.pragma("user_version", 7)
    connection.close()
    assert reader.last() is not None
