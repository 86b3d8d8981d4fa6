"""Walks every panel and control of the page, and compares what it shows with store and counters."""

import json
import re
from typing import Any

import pytest

from app.model.money import money_text
from app.model.orders import STATUS_NAMES
from app.model.reject_codes import RejectCode
from app.model.trades_hash import hash_text
from app.order_manager.store.tools import reading
from tests.end_to_end.dashboard.browser import PHONE, PROJECTOR, Browser
from tests.end_to_end.dashboard.page_stack import PageStack

MINUS = "\u2212"

pytestmark = [pytest.mark.medium, pytest.mark.timeout(180)]


def number(text: str) -> float:
    """The first number in what the page shows; its minus sign is a typographic one."""
    found = re.search(MINUS + r"?[\d,]*\.?\d+", text)
    assert found, text
    return float(found[0].replace(",", "").replace(MINUS, "-"))


def pause(browser: Browser, stack: PageStack) -> int:
    """Stop the market, and wait until the page shows all of it; returns the tick."""
    if "PLAYING" in browser.text("#market"):
        browser.click("#play")
    browser.wait("paused", lambda: browser.text("#market") == "PAUSED")
    browser.wait(
        "all consumed",
        lambda: (
            stack.counter("strategy", "ticks_consumed") == stack.counter("gateway", "ticks_sent")
        ),
    )
    tick = stack.counter("gateway", "ticks_sent")
    browser.wait("the tick", lambda: browser.text("#tick") == f"{tick:,}")
    answered = stack.counter("strategy", "run_orders")
    browser.wait("orders", lambda: f"{answered:,} of {answered:,}" in browser.text("#proof-text"))
    return tick


def play(browser: Browser) -> None:
    if browser.text("#market") == "PAUSED":
        browser.click("#play")
    browser.wait("playing", lambda: browser.text("#market") == "PLAYING")


def stored(stack: PageStack, run: str) -> list[tuple[Any, ...]]:
    """Id, symbol, side, quantity, price, state, filled, code and message of the run's orders."""
    with reading(str(stack.folder / "orders.sqlite3")) as store:
        return list(
            store.execute(
                "SELECT id, symbol, side, qty, price, status, filled_qty, code, msg FROM orders "
                "JOIN clients USING (client_no) WHERE run_id = ? ORDER BY order_no DESC",
                (run,),
            )
        )


def positions(stack: PageStack) -> dict[str, Any]:
    arguments = ("orders", "positions", "--json", "--port", str(stack.order_port))
    found: dict[str, Any] = json.loads(stack.command(*arguments).stdout)
    return found


@pytest.fixture(scope="module")
def page(browser: Browser, stack: PageStack) -> Browser:
    """The page after some orders, two of them refused."""
    browser.open(stack.url)
    browser.wait("orders", lambda: stack.counter("order_manager", "orders_rejected") > 2, 60)
    return browser


def test_the_bar_says_what_the_market_does(page: Browser, stack: PageStack) -> None:
    tick = pause(page, stack)
    assert page.text("#mode") == "REPLAY"
    assert page.text("#trading") == "TRADING"
    assert page.text("#run-id") == "run"
    assert page.text("#tick") == f"{tick:,}"
    answer = json.loads(stack.command("replay", "status", "--json").stdout)
    assert answer["market"]["event_time"] == page.text("#event-time")
    play(page)
    page.wait("speed", lambda: 120 < number(page.text("#speed")) < 280)


def test_the_pipeline_shows_every_process(page: Browser, stack: PageStack) -> None:
    pause(page, stack)
    for service in ("gateway", "orderbook", "strategy", "order_manager"):
        block = stack.metrics(service)
        assert block is not None
        card = f"#stage-{service}"
        assert page.text(f"{card} .word") == "ready"
        assert page.find(f"{card} .light").get_attribute("data-light") == "ok"
        values = [each.text for each in page.all(f"{card} dd")]
        assert values[3] == str(block.restarts)
        if "queue_depth" in block.counters:
            assert values[2] == str(block.counters["queue_depth"])
    assert len(page.all(".wires path")) >= 8, "a drawing between them"


def test_the_orders_are_those_of_the_store(page: Browser, stack: PageStack) -> None:
    pause(page, stack)
    rows = stored(stack, "run")
    page.wait("all of them", lambda: page.text("#orders-count").startswith(f"{len(rows):,} of"))
    shown = page.rows("#blotter")
    assert len(shown) == min(len(rows), 150)
    for cells, row in zip(shown, rows, strict=False):
        order_id, symbol, side, qty, price, status, filled, code, msg = row
        assert cells[1] == str(order_id)
        assert cells[2] == ("BUY" if side > 0 else "SELL")
        assert number(cells[3]) == qty
        assert cells[4] == symbol
        assert number(cells[5]) == float(money_text(price))
        assert cells[6] == STATUS_NAMES[status]
        assert number(cells[7]) == filled
        reason = f"{RejectCode(code).name} {msg}" if code else ""
        assert cells[10] == reason


def test_orders_can_be_filtered_and_searched(page: Browser, stack: PageStack) -> None:
    pause(page, stack)
    rows = stored(stack, "run")
    refused = [row for row in rows if row[7]]
    page.click("input[value=refused]")
    page.wait("refused only", lambda: len(page.rows("#blotter")) == len(refused))
    assert all("NOTIONAL_MAX" in cells[10] for cells in page.rows("#blotter"))
    page.type("#search", str(refused[0][0]))
    page.wait("one", lambda: len(page.rows("#blotter")) == 1)
    assert "which=refused" in page.driver.current_url
    page.driver.refresh()
    page.wait("the same view", lambda: len(page.rows("#blotter")) == 1 and page.rows("#blotter"))
    assert page.rows("#blotter")[0][1] == str(refused[0][0])
    page.type("#search", " ")
    page.click("input[value=all]")
    page.wait("all", lambda: len(page.rows("#blotter")) == min(len(rows), 150))


def test_profit_exposure_and_positions_are_the_order_managers(
    page: Browser, stack: PageStack
) -> None:
    pause(page, stack)
    found = positions(stack)
    total = found["total"]
    page.wait("profit", lambda: number(page.text("#realised")) == round(total["realised"], 2))
    assert number(page.text("#unrealised")) == pytest.approx(total["unrealised"], abs=0.006)
    both = total["realised"] + total["unrealised"]
    assert number(page.text("#pnl")) == pytest.approx(both, abs=0.006)
    exposure = page.text("#limits li:first-child .amount")
    assert number(exposure) == pytest.approx(total["exposure"], abs=0.6)
    shown = {cells[0]: number(cells[1]) for cells in page.rows("#positions")}
    assert shown == {row["symbol"]: row["qty"] for row in found["positions"]}
    kinds = ["fees", "slippage and half spread", "impact", "borrow"]
    costs = [total["fees"], total["slippage"], total["impact"], total["borrow"] + total["accrued"]]
    parts = ", ".join(f"{kind} {cost:,.2f}" for kind, cost in zip(kinds, costs, strict=True))
    bps = sum(costs) * 10_000 / total["turnover"]
    ending = f"{bps:,.2f} basis points of the turnover"
    assert page.text("#costs") == f"Costs, in the profit: {parts}; {ending}"


def test_latency_is_that_of_the_histograms(page: Browser, stack: PageStack) -> None:
    pause(page, stack)
    page.click("input[value=whole]")
    block = stack.metrics("strategy")
    assert block is not None
    wanted = block.histograms["tick_to_ack_ns"].percentile(50.0) / 1000

    def shown_us() -> float:
        cell = next(cells[1] for cells in page.rows("#latency-table") if cells[0] == "ACK")
        return number(cell) * (1000 if cell.endswith("ms") else 1)

    page.wait("p50", lambda: shown_us() == pytest.approx(wanted, rel=0.02))
    assert "half within" in str(page.find("#latency-chart").get_attribute("aria-label"))
    page.click("input[value=recent]")


def test_losses_are_the_counters_and_zero_is_shown(page: Browser, stack: PageStack) -> None:
    pause(page, stack)
    shown = {
        row.find_element("css selector", "dt").text: row.find_element("css selector", "dd").text
        for row in page.all("#loss-list > div")
    }
    assert shown["ticks lost"] == "0"
    assert shown["gaps in the feed"] == "0"
    assert number(shown["orders rejected"]) == stack.counter("order_manager", "orders_rejected")


def test_the_proof_has_the_hash_of_the_strategy(page: Browser, stack: PageStack) -> None:
    pause(page, stack)
    assert page.find("#proof .light").get_attribute("data-light") == "ok"
    assert page.text("#proof-text").startswith("Same trades: ")
    assert page.text("#proof-text").endswith(hash_text(stack.counter("strategy", "trades_hash")))


def test_the_proofs_light_says_that_nothing_is_compared(page: Browser, stack: PageStack) -> None:
    """Of what the page was told last, all is equal."""
    shown = page.driver.execute_async_script(
        """
        const done = arguments[arguments.length - 1];
        import("/static/panels/proof.js").then(({ update }) => {
          const line = { equal: 5, expected: 5, seen: 5, ticks: 9, hash: "ab", note: "" };
          const light = (proof) => {
            update({ state: { proof } });
            return document.querySelector("#proof .light").dataset.light;
          };
          done([light({ line, problem: "" }), light({ line, problem: "it died" }),
                document.getElementById("proof-more").textContent]);
        }, (error) => done([String(error)]));
        """
    )
    assert shown[:2] == ["ok", "busy"]
    assert shown[2].endswith("it died")


def test_a_refresh_keeps_the_symbol_that_nobody_chose(page: Browser, stack: PageStack) -> None:
    page.open(stack.url)
    page.wait("its symbol", lambda: "symbol=" in page.driver.current_url)
    symbol = page.find("#symbol").get_property("value")
    assert page.driver.current_url.endswith(f"?symbol={symbol}")
    page.driver.refresh()
    page.wait("live", lambda: page.text("#stream") == "live")
    assert page.find("#symbol").get_property("value") == symbol
    assert page.driver.current_url.endswith(f"?symbol={symbol}")


def test_the_chart_has_prices_averages_sentiment_and_a_table(
    page: Browser, stack: PageStack
) -> None:
    page.open(f"{stack.url}/?symbol=META&span=120")
    pause(page, stack)
    assert page.find("#symbol").get_property("value") == "META"
    assert len(page.all("#price-chart canvas")) == 1
    page.click("#price details summary")
    page.wait("rows", lambda: len(page.rows("#price-table")) > 20)
    series = stack.snapshot("META")["series"]
    rows = page.rows("#price-table")
    assert [int(number(cells[0])) for cells in rows] == series["seq"][-len(rows) :][::-1]
    assert number(rows[0][2]) == series["price"][-1]
    assert number(rows[0][3]) == pytest.approx(series["short"][-1], abs=0.0006)
    assert number(page.text("#last")) == series["price"][-1]
    page.driver.refresh()
    page.wait("the same view", lambda: page.find("#symbol").get_property("value") == "META")
    assert page.find("#span").get_property("value") == "120"


def test_step_speed_and_jump_do_what_they_say(page: Browser, stack: PageStack) -> None:
    page.open(stack.url)
    tick = pause(page, stack)
    page.type("#step-n", "5")
    page.click("#step")
    page.wait("five ticks", lambda: page.text("#tick") == f"{tick + 5:,}")
    assert stack.counter("gateway", "ticks_sent") == tick + 5
    page.type("#seek", str(tick + 105))
    page.click("#seek-go")
    page.wait("the place", lambda: page.text("#tick") == f"{tick + 105:,}")
    assert page.text("#market") == "PAUSED", "a jump changes nothing else"
    page.type("#pace", "150/s")
    page.click("#pace-set")
    page.wait("the pace", lambda: stack.counter("gateway", "pace_millionths") == 150_000_000)
    page.type("#pace", "warp")
    page.click("#pace-set")
    page.wait("why not", lambda: "pace=warp" in page.text("#answer"))
    play(page)


def test_an_order_leads_to_its_trace(page: Browser, stack: PageStack) -> None:
    pause(page, stack)
    newest = page.rows("#blotter")[0][1]
    page.click("#blotter tbody button")
    # A tick that was sent without a pace was not due at any time.
    page.wait("the stages", lambda: len(page.all(".waterfall li")) >= 9)
    assert newest in page.text("#h-trace")
    assert "ACK received" in page.text(".waterfall")
    assert f"%3A{newest}" in page.driver.current_url
    page.driver.refresh()
    page.wait("the same view", lambda: len(page.all(".waterfall li")) >= 9)
    page.click("#trace-close")
    page.wait("closed", lambda: "order=" not in page.driver.current_url)


def test_keys_do_the_same(page: Browser, stack: PageStack) -> None:
    page.open(stack.url)
    tick = pause(page, stack)
    body = page.find("body")
    body.send_keys(".")
    page.wait("a step", lambda: page.text("#tick") == f"{tick + 1:,}")
    first = page.find("#symbol").get_property("value")
    body.send_keys("]")
    page.wait("the next symbol", lambda: page.find("#symbol").get_property("value") != first)
    body.send_keys("[")
    page.wait("back", lambda: page.find("#symbol").get_property("value") == first)
    body.send_keys("?")
    page.wait("help", lambda: page.find("#help").is_displayed())
    page.find("#keys-on").click()
    page.click("#help button")
    body.send_keys(".")
    page.script("return new Promise((done) => setTimeout(done, 600))")
    assert page.text("#tick") == f"{tick + 1:,}", "keys are switched off"
    page.script("localStorage.clear()")
    page.open(stack.url)
    page.find("body").send_keys(" ")
    page.wait("playing", lambda: page.text("#market") == "PLAYING")


@pytest.mark.parametrize("size", [PHONE, PROJECTOR], ids=["phone", "projector"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_fits_and_has_its_theme(
    page: Browser, stack: PageStack, size: tuple[int, int], theme: str
) -> None:
    page.resize(size)
    for system in ("light", "dark"):
        page.prefer(system)
        for wanted in ("auto", theme):
            page.open(f"{stack.url}/?theme={wanted}" if wanted != "auto" else stack.url)
            if wanted == "auto":
                page.script("localStorage.clear()")
                page.open(stack.url)
            ground = page.script("return getComputedStyle(document.body).backgroundColor")
            dark = (system if wanted == "auto" else theme) == "dark"
            assert (int(ground.split("(")[1].split(",")[0]) < 60) == dark, (system, wanted)
    assert page.script("return document.documentElement.scrollWidth") <= size[0]
    page.resize(PROJECTOR)


def test_nothing_was_loaded_from_elsewhere_and_nothing_failed(
    page: Browser, stack: PageStack
) -> None:
    page.problems()
    page.addresses()
    page.open(stack.url)
    page.script("return new Promise((done) => setTimeout(done, 1500))")
    assert page.problems() == []
    assert {each for each in page.addresses() if not each.startswith(stack.url)} == set()
