"""The report of a run: its numbers by pandas from the Parquet files, its safety, its size."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from app.__main__ import main
from app.backtest import run
from app.backtest.results.facts import machine
from app.strategy.base import Strategy
from app.strategy.kit.params import Param
from tests.app.backtest.html_tables import Page, number, outside
from tests.app.backtest.performance.test_daily import days_file
from tests.support.paths import ROOT

pytest.importorskip("pyarrow")

SAMPLE = ROOT / "data" / "market_data.csv"
COSTS = {"PAPER_HALF_SPREAD_BPS": "2", "PAPER_SLIPPAGE_BPS": "3", "PAPER_FEE_BPS": "1"}
CAPITAL = 5000.0


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run over 300 days with all costs, some orders refused."""
    for name, value in COSTS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RISK_CLIENT_NOTIONAL_MAX", "1100")
    path = days_file(tmp_path, 300)
    arguments = ["--params", "short=2 long=5", "--capital", str(CAPITAL), "--no-plot"]
    arguments += ["--save", "saved", "--out", "out", "--data", str(path)]
    assert main(["backtest", *arguments]) == 0
    return tmp_path / "saved"


def frames(folder: Path) -> dict[str, pandas.DataFrame]:
    names = ("trades", "orders", "equity", "daily", "positions")
    return {name: pandas.read_parquet(folder / f"{name}.parquet") for name in names}


def test_measures_are_those_of_pandas_from_the_equity(saved: Path) -> None:
    page, of = Page((saved / "report.html").read_text()), frames(saved)
    shown = {row[0]: row[1:3] for row in page.table("Measures by day")}
    day = of["equity"]["time_utc"].dt.date
    for place, name in enumerate(("equity", "benchmark_equity")):
        last = of["equity"].groupby(day)[name].last()
        returns = last.pct_change()
        returns.iloc[0] = last.iloc[0] / CAPITAL - 1
        mean, spread = returns.mean(), returns.std()
        total = last.iloc[-1] / CAPITAL - 1
        annual = (1 + total) ** (252 / len(last)) - 1
        peak = last.cummax().clip(lower=CAPITAL)
        fall = (last / peak - 1).min()
        down = np.sqrt((returns.clip(upper=0) ** 2).mean())
        expected = {
            "total return": 100 * total,
            "annual return": 100 * annual,
            "volatility": 100 * spread * 252**0.5,
            "Sharpe ratio": mean / spread * 252**0.5,
            "Sortino ratio": mean / down * 252**0.5,
            "Calmar ratio": annual / -fall,
            "largest drawdown, ends of days": 100 * fall,
        }
        assert {label: number(values[place]) for label, values in shown.items()} == pytest.approx(
            expected, abs=0.00501
        )
    assert all(row[3] for row in page.table("Measures by day")), "each has its formula"


def test_months_are_those_of_pandas_from_the_equity(saved: Path) -> None:
    page, of = Page((saved / "report.html").read_text()), frames(saved)["equity"]
    month = of["time_utc"].dt.tz_localize(None).dt.to_period("M")
    last = of.groupby(month)["equity"].last()
    returns = 100 * (last / last.shift().fillna(CAPITAL) - 1)
    held = of.groupby(of["time_utc"].dt.year)["benchmark_equity"].last()
    years = 100 * (held / held.shift().fillna(CAPITAL) - 1)
    rows = page.table("Return of each month")
    assert [row[0] for row in rows] == ["2024", "2025"]
    for row in rows:
        for place, text in enumerate(row[1:13], 1):
            expected = returns.get(pandas.Period(f"{row[0]}-{place:02d}"))
            if expected is None:
                assert text == "-"
            else:
                assert number(text) == pytest.approx(expected, abs=0.00501)
                assert text[0] in "+-"
        assert number(row[14]) == pytest.approx(years[int(row[0])], abs=0.00501)
        ours = returns[returns.index.year == int(row[0])]
        assert number(row[13]) == pytest.approx(100 * ((1 + ours / 100).prod() - 1), abs=0.00501)


def test_costs_symbols_and_charts_are_those_of_pandas_from_the_trades(saved: Path) -> None:
    page, of = Page((saved / "report.html").read_text()), frames(saved)
    trades, equity = of["trades"], of["equity"]
    sign = np.where(trades["side"] == "BUY", 1, -1)
    worse = (sign * trades["qty"] * (trades["price"] - trades["market_price"])).sum()
    fees = trades["fee"].sum()
    costs = {row[0]: row[1:3] for row in page.table("What trading cost")}
    traded = trades["notional"].sum()
    total = number(costs["all costs"][0])
    assert total == pytest.approx(fees + worse, abs=0.00501)
    assert number(costs["all costs"][1]) == pytest.approx(
        10_000 * (fees + worse) / traded, abs=1e-3
    )
    assert number(costs["fees"][0]) == pytest.approx(fees, abs=0.00501)
    for row in page.table("Each symbol at the end"):
        mine = trades[trades["symbol"] == row[0]]
        at = sign[mine.index]
        held = (at * mine["qty"]).sum()
        last = float(of["positions"].set_index("symbol")["last_price"][row[0]])
        profit = -(at * mine["qty"] * mine["price"] + mine["fee"]).sum() + held * last
        assert number(row[3]) == held
        assert number(row[8]) == pytest.approx(profit, abs=0.00501)
        assert number(row[10]) == pytest.approx(mine["notional"].sum(), abs=0.00501)
        shown = page.table(f"Trades of {row[0]}")
        assert [number(each[3]) for each in shown] == [round(p, 4) for p in mine["price"][:100]]
    assert number(page.table("Equity")[-1][1]) == pytest.approx(equity["equity"].iloc[-1], abs=0.01)
    falls = [number(row[2]) for row in page.table("Drawdown")]
    assert min(falls) == pytest.approx(equity["drawdown_pct"].min(), abs=0.00501)
    gross = max(number(row[3]) for row in page.table("Exposure"))
    assert gross == pytest.approx(equity["exposure_gross"].max(), abs=0.00501)
    turnover = number(page.table("Turnover")[-1][1])
    assert turnover == pytest.approx(traded / CAPITAL, abs=0.00501)
    refused = of["orders"][of["orders"]["code"].notna()]
    reasons = {row[0]: row[1:] for row in page.table("Orders refused")}
    assert reasons == {"NOTIONAL_MAX": [f"{len(refused)}", refused["msg"].iloc[0]]}


def test_it_says_what_it_was_of(saved: Path) -> None:
    page = Page((saved / "report.html").read_text())
    found = json.loads((saved / "report.json").read_text())
    facts = {row[0]: row[1] for row in page.table("The run")}
    assert facts["trades hash"] == found["trades_hash"]
    assert facts["SHA-256 of the file"] == found["data"]["sha256"]
    assert facts["parameters"] == "short=2 long=5 bullish=50 bearish=50"
    settings = {row[0]: row[1] for row in page.table("Settings that decide orders")}
    assert {
        "PAPER_FEE_BPS": "1.0",
        "RISK_CLIENT_NOTIONAL_MAX": "1100.0",
    }.items() <= settings.items()
    shown = {row[0]: row[1] for row in page.table("The machine")}
    assert shown == {name: str(value) for name, value in machine().items()}


def test_nothing_is_loaded_and_nothing_runs(saved: Path) -> None:
    text = (saved / "report.html").read_text()
    page = Page(text)
    assert outside(page) == []
    assert page.tags & {"script", "iframe", "object", "embed", "img", "base", "form", "a"} == set()
    assert not re.search(r"url\(|@import|https?:|//[a-z]", text)
    policy = [value for tag, name, value in page.attributes if (tag, name) == ("meta", "content")]
    assert any("default-src 'none'" in value and "script" not in value for value in policy)


class Noted(Strategy):
    """Its parameter is a text."""

    note = Param("none")

    def on_tick(self, tick: Any) -> str:
        return "BUY" if tick.seq % 7 else "SELL"


EVIL = "</style></title></svg><script>document.title='owned'</script><img src=x onerror=alert(1)>"

SYMBOLS = {"<script>alert(1)</script>", "<!--", "'\">&lt;", "</td><img/src=x/onerror=a()>"}


def hostile(folder: Path) -> Path:
    """The report of a run whose names all are attacks; its symbols, too, of up to 32 bytes."""
    path = folder / "<script>document.title='owned'<script> & \"x\" .csv"
    rows = [
        f"2025-01-01 00:00:{i:02d},{symbol},{100 + i}"
        for i in range(30)
        for symbol in sorted(SYMBOLS)
    ]
    quoted = [row.replace("'\">&lt;", '"\'"">&lt;"') for row in rows]
    path.write_text("timestamp,symbol,price\n" + "\n".join(quoted) + "\n")
    result = run(path, Noted, {"note": EVIL})
    assert set(result.symbols) == SYMBOLS
    return result.to_html(folder / "hostile.html")


def test_a_hostile_name_stays_text(tmp_path: Path) -> None:
    page = Page(hostile(tmp_path).read_text())
    assert page.tags & {"script", "img"} == set()
    assert outside(page) == []
    assert EVIL in page.text.replace("'\"'\"'", "'")
    assert "<script>document.title='owned'<script>" in page.text
    assert {row[0] for row in page.table("Each symbol")} == SYMBOLS


def test_a_name_that_is_no_text_is_written(tmp_path: Path) -> None:
    path = tmp_path / b"\xff\x1b.csv".decode("utf-8", "surrogateescape")
    path.write_bytes(SAMPLE.read_bytes()[:4000].rpartition(b"\n")[0])
    result = run(path)
    result.to_parquet(tmp_path / "saved")
    text = result.to_html(tmp_path / "page.html").read_text()
    assert "\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}.csv" in Page(text).text


def test_a_page_has_a_bounded_size(tmp_path: Path) -> None:
    """Fifteen symbols, thousands of trades."""
    rng = np.random.default_rng(1)
    names = [f"S{i}" for i in range(15)]
    symbols = rng.choice(names, 60_000)
    lines = [
        f"{1_700_000_000 + 7 * i},{symbol},{price:.2f}"
        for i, (symbol, price) in enumerate(zip(symbols, rng.uniform(50, 150, 60_000), strict=True))
    ]
    (tmp_path / "many.csv").write_text("timestamp,symbol,price\n" + "\n".join(lines) + "\n")
    result = run("many.csv", params="short=1 long=2", order_mode="every")
    assert len(result.trades) > 8000
    path = result.to_html("many.html")
    assert path.stat().st_size < 1_500_000
    page = Page(path.read_text())
    assert "of them drawn" in page.text
    assert "The 12 symbols most traded, of 15" in page.text
    assert len(page.table("Each symbol")) == 15


def test_a_run_without_orders_or_with_one_tick(tmp_path: Path) -> None:
    for ticks in (1, 3):
        page = Page(run(SAMPLE, ticks=ticks).to_html(tmp_path / "none.html").read_text())
        assert "There was no order" in page.text
        assert "nan" not in page.text.lower()


def test_a_lost_capital_is_said(tmp_path: Path) -> None:
    result = run(days_file(tmp_path, 90), params="short=2 long=5", capital=20)
    page = Page(result.to_html(tmp_path / "lost.html").read_text())
    assert "All of the capital was lost" in page.text
    assert page.table("Measures by day")[0][1] == "-"


def test_a_notebook_shows_the_figures_and_the_equity() -> None:
    result = run(SAMPLE)
    page = Page(result._repr_html_())
    assert result.trades_hash in page.text
    assert "Equity" in page.captions
    assert outside(page) == []
    assert "body" not in page.tags


def test_the_same_run_gives_the_same_page(tmp_path: Path) -> None:
    one, other = (run(SAMPLE).to_html(tmp_path / f"{i}.html").read_bytes() for i in (1, 2))
    assert one == other
