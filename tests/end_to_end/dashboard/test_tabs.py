"""Many tabs of one browser: it has six connections to a host, and they share one stream."""

from collections.abc import Iterator

import pytest

from tests.end_to_end.dashboard.browser import Browser
from tests.end_to_end.dashboard.page_stack import PageStack
from tests.end_to_end.dashboard.test_page import number, pause, play

pytestmark = [pytest.mark.medium, pytest.mark.timeout(240)]

SYMBOLS = ["AAPL", "META", "NVDA", "F"] * 2
OTHER = "XOM"


@pytest.fixture
def tabs(browser: Browser, stack: PageStack) -> Iterator[list[str]]:
    """Eight, each with a symbol, of a market that stands still: nothing is drawn meanwhile."""
    driver, first = browser.driver, browser.driver.current_window_handle
    browser.open(stack.url)
    pause(browser, stack)
    driver.get("about:blank")
    try:
        for symbol in SYMBOLS:
            driver.switch_to.new_window("tab")
            browser.open(f"{stack.url}/?symbol={symbol}")
        yield [handle for handle in driver.window_handles if handle != first]
    finally:
        for handle in [each for each in driver.window_handles if each != first]:
            driver.switch_to.window(handle)
            driver.close()
        driver.switch_to.window(first)


def shows_its_last_price(browser: Browser, stack: PageStack, symbol: str) -> None:
    price = stack.snapshot(symbol)["series"]["price"][-1]
    browser.wait(symbol, lambda: number(browser.text("#last")) == price)
    assert browser.find("#symbol").get_property("value") == symbol


def test_many_tabs_share_one_stream(browser: Browser, stack: PageStack, tabs: list[str]) -> None:
    """As many as one likes, each with its own symbol."""
    driver = browser.driver
    browser.wait("one stream", lambda: stack.counter("dashboard", "pages") == 1)
    assert stack.post("/commands/transport", {"op": "step", "ticks": 40})[0] == 200
    tick = f"{stack.counter('gateway', 'ticks_sent'):,}"
    for handle, symbol in zip(tabs, SYMBOLS, strict=True):
        driver.switch_to.window(handle)
        browser.wait("the tick", lambda: browser.text("#tick") == tick)
        assert browser.text("#stream") == "live"
        browser.wait("one stream", lambda: browser.text("#pages") == "1 open stream")
        shows_its_last_price(browser, stack, symbol)
    # Another symbol in one tab, and another tab that is closed, leave the others as they are.
    browser.script(
        "const list = document.querySelector('#symbol'); list.value = arguments[0];"
        "list.dispatchEvent(new Event('change'))",
        OTHER,
    )
    shows_its_last_price(browser, stack, OTHER)
    driver.switch_to.window(tabs[0])
    driver.close()
    driver.switch_to.window(tabs[1])
    assert stack.post("/commands/transport", {"op": "step", "ticks": 40})[0] == 200
    tick = f"{stack.counter('gateway', 'ticks_sent'):,}"
    browser.wait("the tick", lambda: browser.text("#tick") == tick)
    shows_its_last_price(browser, stack, SYMBOLS[1])
    browser.wait("one stream", lambda: stack.counter("dashboard", "pages") == 1)


def test_the_stream_ends_with_the_last_tab(browser: Browser, stack: PageStack) -> None:
    """Also of tabs that were left: a browser keeps their pages for a while."""
    for points in range(100, 108):
        browser.open(f"{stack.url}/?points={points}")
    browser.wait("one stream", lambda: browser.text("#pages") == "1 open stream")
    browser.driver.get("about:blank")
    # A tab that the browser ends without a word is noticed after ten seconds.
    browser.wait("none", lambda: stack.counter("dashboard", "pages") == 0, 40)


def test_without_shared_workers_each_tab_has_its_own_stream(
    browser: Browser, stack: PageStack
) -> None:
    hide = {"source": "delete window.SharedWorker"}
    added = browser.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", hide)
    try:
        browser.open(f"{stack.url}/?symbol={SYMBOLS[1]}")
        assert browser.script("return typeof SharedWorker") == "undefined"
        play(browser)
        tick = browser.text("#tick")
        browser.wait("the next ticks", lambda: browser.text("#tick") != tick)
        pause(browser, stack)
        shows_its_last_price(browser, stack, SYMBOLS[1])
    finally:
        browser.driver.execute_cdp_cmd(
            "Page.removeScriptToEvaluateOnNewDocument", {"identifier": added["identifier"]}
        )
