"""``python -m app portfolio verify``: the books against the order stores of the shards."""

from pathlib import Path

import apsw
import pytest

from app.__main__ import main
from app.portfolio.service import Message, Portfolio
from app.portfolio.state import State
from tests.app.portfolio.fill_messages import NOON_NS, Told
from tests.app.portfolio.order_stores import write_store

A = [
    Told(run="r", fill_no=no, symbol=symbol, side=side, qty=qty, price=price * 10**9 + 7, fee=no,
         slippage=2, impact=3, borrow=1, at_ns=NOON_NS + no)
    for no, (symbol, side, qty, price) in enumerate(
        [("AAPL", "BUY", 10, 100), ("X", "SELL", 5, 7), ("AAPL", "SELL", 4, 110),
         ("X", "SELL", 1, 8)], 1)
]  # fmt: skip
B = [
    Told(shard="b", run=run, fill_no=no, symbol="BTC", qty=10**8 * no, price=60_000 * 10**9,
         qty_decimals=8, fee=10**16, at_ns=NOON_NS + no)
    for no, run in enumerate(["one", "one", "two"], 1)
]  # fmt: skip


@pytest.fixture
def books(tmp_path: Path) -> Path:
    path = tmp_path / "portfolio.sqlite3"
    state = State(str(path))
    portfolio = Portfolio(state, [])
    for shard, fills in (("a", A), ("b", B)):
        portfolio.take(
            shard, [Message(seq, f.message(), f.marks) for seq, f in enumerate(fills, 1)]
        )
    state.close()
    return path


def verified(
    books: Path, a: Path, b: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[int, list[str]]:
    code = main(["portfolio", "verify", f"a={a}", f"b={b}", "--books", str(books)])
    return code, capsys.readouterr().out.splitlines()


def test_equal_books_are_shown_with_their_sum(
    tmp_path: Path, books: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = write_store(tmp_path / "a", A), write_store(tmp_path / "b", B)
    code, lines = verified(books, a, b, capsys)
    assert code == 0
    assert lines[-1] == f"{books}: equals the sum of the stores"
    rows = [line.split() for line in lines[2:6]]
    assert rows[0][:4] == ["a", "r", "4", "2"]
    assert rows[1][:5] == ["b", "two", "1", "1", "180000.00"]
    assert rows[2][:6] == ["b", "one", "(older)", "2", "1", "180000.00"]
    assert rows[3][:4] == ["all", "latest", "5", "3"]
    assert rows[3][4] == "180708.000000084"  # and 6 * 110 + 6 * 8, each 7e-9 more


def test_an_older_run_that_its_store_has_pruned_is_named_and_no_difference(
    tmp_path: Path, books: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = write_store(tmp_path / "a", A)
    b = write_store(tmp_path / "b", [fill for fill in B if fill.run == "two"])
    code, lines = verified(books, a, b, capsys)
    assert code == 0
    assert (
        "b: older run one: 2 fills, not compared: the store has no such run (pruned, or another "
        "store)" in lines
    )


def test_the_latest_run_must_be_in_the_store(
    tmp_path: Path, books: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = write_store(tmp_path / "a", A)
    b = write_store(tmp_path / "b", [fill for fill in B if fill.run == "one"])
    code, lines = verified(books, a, b, capsys)
    assert code == 1
    assert "b: fills of run two of store one: portfolio 1 (3-3), store none" in lines


def test_an_older_run_that_the_store_has_is_compared(
    tmp_path: Path, books: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = write_store(tmp_path / "a", A), write_store(tmp_path / "b", B)
    apsw.Connection(str(b)).execute("UPDATE orders SET fee = fee + 1 WHERE exec_first = 1")
    code, lines = verified(books, a, b, capsys)
    assert code == 1
    assert any(line.startswith("b: BTC fees of run one: portfolio ") for line in lines), lines


def test_a_store_of_the_same_run_but_another_id_is_told_apart(
    tmp_path: Path, books: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = write_store(tmp_path / "a", A), write_store(tmp_path / "b", B)
    apsw.Connection(str(a)).execute("UPDATE identity SET store_id = 'two'")
    code, lines = verified(books, a, b, capsys)
    assert code == 1
    assert "a: fills of run r of store one: portfolio 4 (1-4), store none" in lines
    assert "a: fills of run r of store two: portfolio none, store 4 (1-4)" in lines


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        (
            "UPDATE orders SET exec_price = exec_price + 1 WHERE exec_first = 1",
            "AAPL cost of run r",
        ),
        ("UPDATE executions SET fee = fee + 1 WHERE fill_no = 4", "X fees of run r"),
        ("UPDATE orders SET side = -side WHERE order_no = 2", "X qty of run r"),
        ("DELETE FROM executions WHERE fill_no = 4", "fills of run r of store one"),
        ("UPDATE clients SET run_id = 'other'", "fills of run other of store one"),
    ],
)
def test_a_difference_of_one_unit_is_found_and_named(
    tmp_path: Path, books: Path, capsys: pytest.CaptureFixture[str], sql: str, says: str
) -> None:
    a, b = write_store(tmp_path / "a", A), write_store(tmp_path / "b", B)
    apsw.Connection(str(a)).execute(sql)
    code, lines = verified(books, a, b, capsys)
    assert code == 1
    assert any(line.startswith(f"a: {says}: portfolio ") for line in lines), lines
    assert not any(line.startswith("b: ") for line in lines)
    assert lines[-1].endswith("differs from the sum of the stores")


def test_what_the_portfolio_has_not_read_yet_is_missing(
    tmp_path: Path, books: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = [*B, Told(shard="b", run="two", fill_no=4, symbol="BTC", qty=1, qty_decimals=8)]
    a, b = write_store(tmp_path / "a", A), write_store(tmp_path / "b", more)
    code, lines = verified(books, a, b, capsys)
    assert code == 1
    assert "b: fills of run two of store one: portfolio 1 (3-3), store 2 (3-4)" in lines


def test_a_shard_that_is_not_named_is_a_difference(
    tmp_path: Path, books: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = write_store(tmp_path / "a", A)
    assert main(["portfolio", "verify", f"a={a}", "--books", str(books)]) == 1
    assert "b: fills: portfolio 3, store not named" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["x"], ["=x"], ["a="], ["A=x"], ["a=x", "a=y"]])
def test_wrong_usage_is_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["portfolio", "verify", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_files_that_cannot_be_read_are_named(
    tmp_path: Path, books: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = write_store(tmp_path / "a", A)
    for store, file in [(tmp_path / "no", books), (a, tmp_path / "no"), (a, a), (books, books)]:
        assert main(["portfolio", "verify", f"a={store}", "--books", str(file)]) == 1
        said = capsys.readouterr().err
        assert said.startswith("portfolio: ")
        assert said.count("\n") == 1
