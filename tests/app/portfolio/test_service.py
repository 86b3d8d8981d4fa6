"""Messages in, numbers and controls out; whatever dies in between, the same."""

import random
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from app.model.timestamps import DAY_NS
from app.portfolio.books_file import StateError
from app.portfolio.service import Message, NotStored, Portfolio
from app.portfolio.state import State
from tests.app.portfolio.fill_messages import NOON_NS, Told
from tests.app.portfolio.portfolios import MONEY, limited, messages, numbers, opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "portfolio.sqlite3"


@pytest.fixture
def portfolio(path: Path) -> Iterator[Portfolio]:
    found = opened(path)
    yield found
    found.state.close()


def test_a_batch_is_taken_once(portfolio: Portfolio) -> None:
    batch = messages(Told(), Told(fill_no=2, symbol="X", side="SELL"))
    assert portfolio.take("a", batch) == 2
    before = numbers(portfolio)
    assert portfolio.take("a", batch) == 0
    assert portfolio.take("a", batch[:1]) == 0
    assert numbers(portfolio) == before
    state = portfolio.shards["a"]
    assert (state.seq, state.fills, state.repeats, state.refused) == (2, 2, 0, 0)


def test_a_publishers_repeat_further_on_in_the_stream_is_counted_and_dropped(
    portfolio: Portfolio,
) -> None:
    portfolio.take("a", messages(Told(), Told(fill_no=2)))
    before = numbers(portfolio)
    assert portfolio.take("a", messages(Told(), Told(fill_no=2), first=3)) == 0
    assert numbers(portfolio) == before
    assert portfolio.shards["a"].repeats == 2
    assert portfolio.shards["a"].seq == 4


def test_what_is_no_fill_is_counted_and_stops_nobody(portfolio: Portfolio) -> None:
    batch = [Message(seq, b"{}") for seq in range(1, 10)] + messages(Told(), first=10)
    with capture_logs() as lines:
        assert portfolio.take("a", batch) == 1
    assert [line["seq"] for line in lines if line["event"] == "fill_refused"] == [1, 2, 3, 4, 5]
    assert portfolio.shards["a"].refused == 9


fills = st.lists(
    st.builds(
        Told,
        fill_no=st.integers(1, 30),
        shard=st.sampled_from("ab"),
        run=st.sampled_from("rs"),
        at_ns=st.integers(NOON_NS - DAY_NS, NOON_NS + DAY_NS),
        symbol=st.sampled_from(["A", "B"]),
        side=st.sampled_from(["BUY", "SELL"]),
        qty=st.integers(1, 10**12),
        price=st.integers(1, 10**15),
        fee=st.integers(0, 10**9),
        qty_decimals=st.integers(0, 9),
        store=st.just("one"),
    ),
    max_size=16,
    unique_by=lambda told: (told.shard, told.run, told.fill_no),
)


@settings(max_examples=20, deadline=None)
@given(fills, st.randoms(use_true_random=False))
def test_killed_between_any_two_batches_it_has_the_same_numbers(
    tmp_path_factory: pytest.TempPathFactory, told: list[Told], rng: random.Random
) -> None:
    """One life that gets everything once, and many that get it again, late and repeated."""
    folder = tmp_path_factory.mktemp("lives")
    whole = opened(folder / "whole.sqlite3")
    broken = opened(folder / "broken.sqlite3")
    try:
        for shard in "ab":
            whole.take(shard, messages(*(t for t in told if t.shard == shard)))
        for shard in rng.sample("ab", 2):
            own = [t for t in told if t.shard == shard]
            rng.shuffle(own)
            stream = messages(*own, *rng.choices(own, k=len(own))) if own else []
            while stream and broken.know(shard).seq < stream[-1].seq:
                start = rng.randint(0, broken.know(shard).seq)
                broken.take(shard, stream[start : start + rng.randint(1, 8)])
                if rng.random() < 0.3:  # as after a kill: only the file is left
                    broken.state.close()
                    broken = opened(folder / "broken.sqlite3")
        assert numbers(broken) == numbers(whole)
        assert broken.books.day == whole.books.day
    finally:
        whole.state.close()
        broken.state.close()


def test_a_batch_that_cannot_be_stored_leaves_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    portfolio = opened(path, limited(exposure=1000))
    portfolio.take("a", messages(Told(qty=1)))
    before, shard = numbers(portfolio), portfolio.shards["a"]
    too_much = messages(Told(fill_no=2, qty=500), first=2)
    with monkeypatch.context() as patched:

        def full(*_: object) -> None:
            raise apsw.FullError("database or disk is full")

        patched.setattr(portfolio.state, "write_shard", full)
        with pytest.raises(NotStored, match="disk is full"):
            portfolio.take("a", too_much)
    assert numbers(portfolio) == before
    assert portfolio.shards["a"] == shard
    assert not portfolio.watch.active
    assert portfolio.take("a", too_much) == 1
    assert portfolio.unsent == 1
    portfolio.state.close()


# ---- Limits and controls


def test_past_a_limit_every_shard_is_told_once(path: Path) -> None:
    portfolio = opened(path, limited(exposure=1500))
    portfolio.know("a")
    portfolio.know("b")
    portfolio.take("a", messages(Told(qty=10)))
    portfolio.take("b", messages(Told(shard="b", symbol="X", qty=5)))
    assert portfolio.state.unsent_controls() == []
    with capture_logs() as lines:
        portfolio.take("b", messages(Told(shard="b", symbol="X", fill_no=2, qty=1), first=2))
        portfolio.take("b", messages(Told(shard="b", symbol="X", fill_no=3, qty=1), first=3))
    assert [line["event"] for line in lines] == ["limit_passed"]
    controls = portfolio.state.unsent_controls()
    name = portfolio.state.name
    assert [control.id for control in controls] == [
        f"portfolio-{name}-1-a", f"portfolio-{name}-1-b",
    ]  # fmt: skip
    assert {control.mode for control in controls} == {"reduce"}
    assert controls[0].reason == "exposure over all shards is 1600.00, the limit 1500.00"
    portfolio.state.close()


def test_a_control_is_due_until_its_stream_has_it_whoever_dies(path: Path) -> None:
    portfolio = opened(path, limited(exposure=100))
    portfolio.take("a", messages(Told(qty=2)))
    (control,) = portfolio.state.unsent_controls()
    portfolio.state.close()  # before it was sent
    portfolio = opened(path, limited(exposure=100))
    assert portfolio.unsent == 1
    assert portfolio.state.unsent_controls() == [control], "the same id"
    portfolio.control_arrived(control, 7)
    portfolio.state.close()
    portfolio = opened(path, limited(exposure=100))
    portfolio.look()
    assert portfolio.state.unsent_controls() == [], "the breach goes on: nothing new to say"
    (found,) = portfolio.state.last_controls(5)
    assert (found.arrived_seq, found.arrived_ns) == (7, NOON_NS)
    portfolio.state.close()


def test_nothing_resumes_and_the_next_breach_has_another_id(path: Path) -> None:
    portfolio = opened(path, limited(exposure=100))
    with capture_logs() as lines:
        portfolio.take("a", messages(Told(qty=2)))
        portfolio.take("a", messages(Told(fill_no=2, qty=2, side="SELL"), first=2))
        portfolio.take("a", messages(Told(fill_no=3, qty=3), first=3))
    assert [line["event"] for line in lines] == [
        "limit_passed", "limit_kept_again", "limit_passed",
    ]  # fmt: skip
    controls = portfolio.state.unsent_controls()
    assert [c.mode for c in controls] == ["reduce", "reduce"]
    assert len({c.id for c in controls}) == 2
    assert [ended for _, ended in portfolio.state.last_breaches(5)] == [None, NOON_NS]
    portfolio.state.close()


def test_a_shard_that_is_first_seen_during_a_breach_is_told_too(path: Path) -> None:
    portfolio = opened(path, limited(exposure=100))
    portfolio.take("a", messages(Told(qty=2)))
    portfolio.know("new")
    portfolio.look()
    portfolio.look()
    assert [c.shard for c in portfolio.state.unsent_controls()] == ["a", "new"]
    portfolio.state.close()


def test_the_past_is_not_judged_while_catching_up(path: Path) -> None:
    portfolio = opened(path, limited(exposure=100))
    portfolio.behind("a")
    portfolio.take("a", messages(Told(qty=2)))
    portfolio.look()
    assert not portfolio.judges
    portfolio.take("a", messages(Told(fill_no=2, qty=2, side="SELL"), first=2))
    portfolio.caught_up("a")
    assert portfolio.judges
    assert portfolio.state.last_breaches(5) == []
    portfolio.state.close()


def test_once_caught_up_the_present_is_judged_at_once(path: Path) -> None:
    portfolio = opened(path, limited(exposure=100))
    portfolio.behind("a")
    portfolio.take("a", messages(Told(qty=2)))
    assert portfolio.unsent == 0
    portfolio.caught_up("a")
    assert portfolio.unsent == 1
    portfolio.state.close()


def test_the_daily_loss_begins_anew_with_the_day(path: Path) -> None:
    portfolio = opened(path, limited(loss=50))
    lost = [Told(qty=1, price=100 * 10**9), Told(fill_no=2, side="SELL", qty=1, price=30 * 10**9)]
    portfolio.take("a", messages(*lost))
    (breach,) = portfolio.watch.active.values()
    assert (breach.limit, breach.value) == ("daily_loss", 70 * MONEY)
    tomorrow = Told(fill_no=3, qty=1, price=30 * 10**9, at_ns=NOON_NS + DAY_NS)
    portfolio.take("a", messages(tomorrow, first=3))
    assert not portfolio.watch.active
    assert portfolio.books.lines()["AAPL"].pnl == -70 * MONEY
    assert portfolio.books.lines()["AAPL"].day_pnl == 0
    portfolio.state.close()


# ---- Streams and files


def test_another_stream_starts_over_and_repeats_cost_nothing(portfolio: Portfolio) -> None:
    portfolio.restart_stream("a", "born-1")
    portfolio.take("a", messages(Told(), Told(fill_no=2)))
    before = numbers(portfolio)
    with capture_logs() as lines:
        portfolio.restart_stream("a", "born-2")
    assert [line["event"] for line in lines] == ["stream_restarted"]
    assert portfolio.shards["a"].seq == 0
    portfolio.take("a", messages(Told(), Told(fill_no=2), Told(fill_no=3)))
    assert numbers(portfolio) != before
    assert portfolio.shards["a"].fills == 3


def test_lost_messages_are_counted_and_said(portfolio: Portfolio) -> None:
    portfolio.take("a", messages(Told()))
    with capture_logs() as lines:
        portfolio.skip_to("a", 11, 9)
    assert lines[0]["event"] == "messages_lost"
    assert portfolio.shards["a"].lost == 9
    assert portfolio.take("a", messages(Told(fill_no=20), first=11)) == 1


def test_one_process_has_the_file(path: Path, portfolio: Portfolio) -> None:
    with pytest.raises(StateError, match="another portfolio has this file"):
        State(str(path))


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="File exists; set PORTFOLIO_STORE_PATH"):
        State(str(tmp_path / "file" / "portfolio.sqlite3"))


def test_another_programs_file_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite3"
    apsw.Connection(str(other)).execute("CREATE TABLE t(x)")
    with pytest.raises(StateError, match="another program's"):
        State(str(other))
    other.write_bytes(b"no database at all, but long enough to have a header" * 100)
    with pytest.raises(StateError, match="damaged"):
        State(str(other))


def test_a_file_of_a_later_version_is_refused(path: Path, portfolio: Portfolio) -> None:
    portfolio.state.close()
    apsw.Connection(str(path)).pragma("user_version", 99)
    with pytest.raises(StateError, match="later version"):
        State(str(path))
    apsw.Connection(str(path)).pragma("user_version", 2)
    portfolio.state = State(str(path))
