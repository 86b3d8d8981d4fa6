"""What a new run, another store, a restart and a new day do to the numbers and the limits."""

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from structlog.testing import capture_logs

from app.model.timestamps import DAY_NS
from app.portfolio import service
from app.portfolio.service import NotStored, Portfolio
from tests.app.portfolio.fill_messages import NOON_NS, Told
from tests.app.portfolio.portfolios import MONEY, limited, messages, numbers, opened


class Clock:
    """Stands where it is put."""

    def __init__(self) -> None:
        self.now_ns, self.monotonic = NOON_NS, 0.0

    def ns(self) -> int:
        return self.now_ns

    def s(self) -> float:
        return self.monotonic


class Lives:
    """A portfolio that may be killed and started again on its file."""

    def __init__(self, path: Path) -> None:
        self.path, self.clock = path, Clock()
        self._now: Portfolio | None = None

    def start(self) -> Portfolio:
        self.end()
        limits = limited(exposure=1500, loss=100)
        self._now = opened(self.path, limits, self.clock.ns, self.clock.s)
        return self._now

    def end(self) -> None:
        if self._now:
            self._now.state.close()
        self._now = None


@pytest.fixture
def lives(tmp_path: Path) -> Iterator[Lives]:
    made = Lives(tmp_path / "portfolio.sqlite3")
    yield made
    made.end()


@pytest.fixture
def portfolio(lives: Lives) -> Portfolio:
    return lives.start()


@pytest.fixture
def clock(lives: Lives) -> Clock:
    return lives.clock


def fail_to_store(portfolio: Portfolio, patched: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise apsw.FullError("database or disk is full")

    patched.setattr(portfolio.state, "write_books", full)


# ---- Runs and stores


def test_runs_that_have_ended_do_not_add_up(portfolio: Portfolio, lives: Lives) -> None:
    """Three runs of 1,000 each are no exposure of 3,000, also after a restart."""
    for number, run in enumerate(("one", "two", "three"), 1):
        portfolio.take("a", messages(Told(run=run, fill_no=number), first=number))
        assert portfolio.books.total().exposure == 1000 * MONEY
    assert portfolio.state.last_breaches(5) == []
    before = numbers(portfolio)
    portfolio = lives.start()
    assert numbers(portfolio) == before
    assert [key.run for key in portfolio.books.older_runs()] == ["two", "one"]
    assert portfolio.take("a", messages(Told(run="one"), first=9)) == 0, "a repeat is still one"


def test_a_new_run_is_said_once(portfolio: Portfolio) -> None:
    fills = [Told(run=run, fill_no=no, qty=1) for no, run in enumerate("rss", 1)]
    with capture_logs() as lines:
        portfolio.take("a", messages(*fills))
    assert lines == [
        {"event": "run_replaced", "log_level": "info", "shard": "a", "was": "r", "now": "s"}
    ]


def test_another_store_is_said_loudly_and_its_fills_count(
    portfolio: Portfolio, lives: Lives
) -> None:
    portfolio.take("a", messages(Told(), Told(fill_no=2, qty=1)))
    portfolio.restart_stream("a", "born-2")
    with capture_logs() as lines:
        assert portfolio.take("a", messages(Told(qty=3, store="two"))) == 1
    (line,) = lines
    assert (line["event"], line["log_level"]) == ("order_store_changed", "error")
    assert (line["was"], line["now"], line["run"]) == ("one", "two", "r")
    assert portfolio.shards["a"].repeats == 0
    portfolio = lives.start()
    assert portfolio.books.total().exposure == 300 * MONEY
    assert portfolio.books.current["a"].store == "two"


def test_books_of_an_older_version_are_read_again(portfolio: Portfolio, lives: Lives) -> None:
    portfolio.take("a", messages(Told(qty=20)))
    (breach,) = portfolio.watch.active.values()
    lives.end()
    db = apsw.Connection(str(lives.path))
    for table in ("runs", "seen", "holdings", "marks"):
        db.execute(f"DROP TABLE {table}")
    db.execute("CREATE TABLE seen(x); CREATE TABLE holdings(x)")  # whatever they were
    db.pragma("user_version", 1)
    db.close()
    with capture_logs() as lines:
        portfolio = lives.start()
    assert [line["event"] for line in lines] == ["books_read_again"]
    assert portfolio.shards["a"].seq == portfolio.books.total().exposure == 0
    assert portfolio.watch.active == {"exposure": breach}
    assert portfolio.unsent == 1
    assert portfolio.take("a", messages(Told(qty=20))) == 1
    assert [each.number for each, _ in portfolio.state.last_breaches(5)] == [breach.number]


# ---- Prices of the market


def test_a_breach_by_price_is_told_once_over_a_restart(portfolio: Portfolio, lives: Lives) -> None:
    portfolio.take("a", messages(Told()))
    portfolio.see_prices({"AAPL": 200 * 10**9})
    portfolio.look()
    assert portfolio.unsent == 1
    for _ in range(3):
        portfolio = lives.start()
        portfolio.behind("a")
        portfolio.caught_up("a")
        portfolio.look()
        assert portfolio.books.total().exposure == 2000 * MONEY
        assert list(portfolio.watch.active) == ["exposure"]
        assert len(portfolio.state.last_controls(5)) == 1


def test_a_breach_by_price_is_told_once_when_the_file_could_not_be_written(
    portfolio: Portfolio,
) -> None:
    portfolio.take("a", messages(Told()))
    portfolio.see_prices({"AAPL": 200 * 10**9})
    portfolio.look()
    with pytest.MonkeyPatch.context() as patched:
        fail_to_store(portfolio, patched)
        with pytest.raises(NotStored):
            portfolio.take("a", messages(Told(fill_no=2, qty=1), first=2))
        with pytest.raises(NotStored):
            portfolio.look()
    portfolio.look()
    assert list(portfolio.watch.active) == ["exposure"]
    portfolio.see_prices({"AAPL": 200 * 10**9})
    portfolio.take("a", messages(Told(fill_no=2, qty=1), first=2))
    assert len(portfolio.state.last_controls(5)) == 1
    assert len(portfolio.state.last_breaches(5)) == 1


def test_fills_of_the_time_without_us_are_newer_than_the_last_mark(
    portfolio: Portfolio, lives: Lives
) -> None:
    portfolio.take("a", messages(Told()))
    portfolio.see_prices({"AAPL": 90 * 10**9})
    portfolio.look()
    portfolio = lives.start()
    missed = Told(fill_no=2, qty=1, price=130 * 10**9, at_ns=NOON_NS + 5)
    portfolio.take("a", messages(missed, first=2))
    assert portfolio.books.lines()["AAPL"].mark == 130 * 10**9


# ---- The day


def test_the_days_loss_begins_at_the_marks_of_its_beginning(
    portfolio: Portfolio, lives: Lives, clock: Clock
) -> None:
    """Two days without a fill: bought at 100, worth 95 at midnight, 93 a day later."""
    portfolio.take("a", messages(Told()))
    portfolio.see_prices({"AAPL": 95 * 10**9})
    portfolio.look()
    assert portfolio.books.total().day_pnl == -50 * MONEY
    clock.now_ns += DAY_NS
    portfolio.see_prices({"AAPL": 93 * 10**9})
    portfolio.look()
    assert portfolio.books.total().day_pnl == -20 * MONEY
    portfolio = lives.start()
    assert portfolio.books.total().day_pnl == -20 * MONEY
    assert portfolio.books.total().pnl == -70 * MONEY
    clock.now_ns += DAY_NS
    portfolio.look()
    assert portfolio.books.total().day_pnl == 0
    portfolio.see_prices({"AAPL": 80 * 10**9})
    portfolio.look()
    assert portfolio.books.total().day_pnl == -130 * MONEY
    (breach,) = portfolio.watch.active.values()
    assert (breach.limit, breach.value) == ("daily_loss", 130 * MONEY)


def test_a_late_fill_of_yesterday_is_measured_at_the_days_opening(
    portfolio: Portfolio, clock: Clock
) -> None:
    portfolio.take("a", messages(Told()))
    portfolio.see_prices({"AAPL": 95 * 10**9})
    clock.now_ns += DAY_NS
    portfolio.look()
    portfolio.take(
        "a", messages(Told(fill_no=2, qty=10, price=50 * 10**9, at_ns=NOON_NS - 1), first=2)
    )
    assert portfolio.books.total().day_pnl == 0
    assert portfolio.books.total().pnl == 400 * MONEY


# ---- Catching up


def test_catching_up_again_is_not_judged_either(portfolio: Portfolio) -> None:
    """After a time without the bus: what was bought and sold meanwhile was no breach."""
    portfolio.take("a", messages(Told(qty=1)))
    portfolio.behind("a")
    portfolio.take("a", messages(Told(fill_no=2, qty=90), first=2))
    portfolio.look()
    portfolio.take("a", messages(Told(fill_no=3, side="SELL", qty=90), first=3))
    portfolio.caught_up("a")
    assert portfolio.judges
    assert portfolio.state.last_breaches(5) == []


def test_limits_wait_for_nobody_who_is_silent(portfolio: Portfolio, clock: Clock) -> None:
    portfolio.behind("a")
    portfolio.take("a", messages(Told(qty=90)))
    clock.monotonic = service.SILENT_MAX_S - 1
    portfolio.take("a", messages(Told(fill_no=2, qty=1), first=2))
    clock.monotonic += service.SILENT_MAX_S
    portfolio.look()
    assert not portfolio.judges, "a message came meanwhile"
    clock.monotonic += 1
    with capture_logs() as lines:
        portfolio.look()
    assert [line["event"] for line in lines] == ["limits_wait_no_longer", "limit_passed"]
    assert portfolio.unsent == 1


def test_limits_wait_for_nobody_forever(portfolio: Portfolio, clock: Clock) -> None:
    portfolio.behind("a")
    portfolio.take("a", messages(Told(qty=90)))
    for number in range(2, 100):
        clock.monotonic += service.SILENT_MAX_S / 2
        portfolio.behind("a")  # a connection that is lost again and again begins no other wait
        portfolio.take("a", messages(Told(fill_no=number, qty=1), first=number))
        portfolio.look()
        if portfolio.judges:
            break
    assert service.WAIT_MAX_S < clock.monotonic <= service.WAIT_MAX_S + service.SILENT_MAX_S
    assert portfolio.unsent == 1
