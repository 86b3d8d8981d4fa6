"""A file with symbols of 1 to 32 bytes: four processes, some of them killed, and a backtest."""

import json
import signal
from pathlib import Path

import pytest

from app.backtest import replay as backtest
from app.backtest.outcome import of_backtest
from app.config.settings import Settings
from app.market_data.sources.loader import open_feed
from app.shared_memory_utils.price_book import SharedPriceBook
from tests.chaos.host import HostStack
from tests.end_to_end.dashboard.page_stack import PageStack
from tests.support.paths import ROOT

IN_FILE = [
    *("A", "BTCUSDT", "12345678", "123456789", "1000000BTT", "BTC-USD-SWAP", "BTC-USDT-PERP"),
    *("AAPL  251219C00200000", "AAPL  251219P00200000", "ABCDEFGHIJKLMNOPQRSTUVWXYZ123456"),
]
NAMES = [name.replace(" ", "") for name in IN_FILE]


def with_long_symbols(folder: Path) -> Path:
    """The committed sample with other names for its ten symbols."""
    text = (ROOT / "data" / "market_data.csv").read_text()
    symbols = dict.fromkeys(line.split(",")[1] for line in text.splitlines()[1:])
    for symbol, name in zip(symbols, IN_FILE, strict=True):
        text = text.replace(f",{symbol},", f",{name},")
    path = folder / "long.csv"
    path.write_text(text)
    return path


@pytest.mark.medium
def test_four_processes_and_a_backtest_send_the_same_orders(tmp_path: Path) -> None:
    path = with_long_symbols(tmp_path)
    chosen = Settings(data_path=str(path), replay="once")
    wanted = of_backtest(backtest.run(chosen, open_feed(chosen)))
    assert {order.symbol for order in wanted.orders} == set(NAMES)
    plain = Settings(data_path=str(ROOT / "data" / "market_data.csv"), replay="once")
    other = backtest.run(plain, open_feed(plain))
    assert len(other.orders) == len(wanted.orders)
    with HostStack(tmp_path / "run", data_path=path, pace="20000/s") as stack:
        for service, ticks in (("strategy", 6000), ("orderbook", 12000), ("order_manager", 18000)):
            stack.wait_until(
                f"{ticks} ticks",
                lambda ticks=ticks: stack.counter("strategy", "ticks_consumed") > ticks,
                60,
            )
            assert stack.signal(service, signal.SIGKILL)
        assert stack.wait(90) == 0, stack.tail(60)
        assert stack.outcome() == wanted


@pytest.mark.medium
def test_orders_by_hand_the_book_and_the_page(tmp_path: Path) -> None:
    path = with_long_symbols(tmp_path)
    longest = NAMES[-1]
    with PageStack(tmp_path / "run", data_path=path, replay="walk", pace="5000/s") as stack:
        stack.wait_until("prices", lambda: stack.counter("strategy", "ticks_consumed") > 2000, 60)
        with SharedPriceBook(name=stack.segment("book"), create=False) as book:
            assert sorted(book.read_all()) == sorted(NAMES)
        sent = stack.command("orders", "send", "BUY", "10", longest, "9000", "--json")
        assert sent.returncode == 0, sent.stderr
        assert json.loads(sent.stdout)["order"]["symbol"] == longest
        shown = stack.command("orders", "positions", "--symbol", longest, "--client", "default")
        assert longest in shown.stdout
        stack.wait_page()
        assert stack.snapshot(longest)["symbol"] == longest
        assert stack.get(f"/events?symbol={longest}7")[0] == 400
        refused = stack.command("orders", "send", "BUY", "10", longest + "7", "9000")
        assert (refused.returncode, refused.stderr) == (
            1,
            "BAD_FIELD: bad field symbol: symbol of 33 characters, at most 32 bytes\n",
        )
