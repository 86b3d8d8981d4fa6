"""In front of the audience: everything fails, the market jumps, and the trades stay the same."""

import signal
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from tests.end_to_end.dashboard.browser import Browser, open_browser
from tests.end_to_end.dashboard.page_stack import PageStack

pytestmark = [pytest.mark.medium, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    yield from open_browser(tmp_path_factory.mktemp("profile"))


def compare(stack: PageStack) -> str:
    """The verdict of ``python -m app compare`` on the run so far."""
    done = stack.command("compare")
    return done.stdout + done.stderr


def wait_for_proof(browser: Browser) -> None:
    """Wait until the page says that all orders so far are equal, and has seen some."""

    def proven() -> bool:
        light = browser.find("#proof .light").get_attribute("data-light")
        return light == "ok" and browser.text("#proof-text").startswith("Same trades")

    try:
        browser.wait("proof", proven, 60)
    except AssertionError:
        pytest.fail(f"{browser.text('#proof')}; tick {browser.text('#tick')}")


def test_the_walk(browser: Browser, tmp_path: Path) -> None:
    """Pause, step 5, kill strategy and order manager, freeze the orderbook, jump back, go on."""
    with PageStack(tmp_path, replay="walk", pace="100/s", chaos=True, run_id="walk") as stack:
        stack.wait_page()
        browser.open(stack.url)
        wait_for_proof(browser)
        browser.click("#play")
        browser.wait("paused", lambda: browser.text("#market") == "PAUSED")
        browser.type("#step-n", "5")
        browser.click("#step")
        browser.wait("stepped", lambda: "Stands still" in browser.text("#answer"))
        browser.click("#play")
        begun_s = stack.snapshot()["profit"][0][0]
        for service in ("strategy", "order_manager"):
            browser.click(f"#stage-{service} button.kill")
            card = f"#stage-{service}"
            restarts = f"{card} dl div:nth-child(4) dd"
            browser.wait("restarted", lambda r=restarts: browser.text(r) == "1", 30)
            assert browser.find(restarts).get_attribute("class") == "fresh", "it stands out"
            browser.wait("healthy", lambda c=card: browser.text(f"{c} .word") == "ready", 30)
        browser.type("#stage-orderbook .faults input", "5")
        browser.click("#stage-orderbook button.freeze")
        light = "#stage-orderbook .light"
        browser.wait("seen", lambda: browser.find(light).get_attribute("data-light") == "warn", 10)
        browser.wait("healed", lambda: browser.find(light).get_attribute("data-light") == "ok", 20)
        browser.click("#stage-gateway button.cut")
        browser.wait("asked", lambda: "gateway to cut" in browser.text("#answer"))
        wait_for_proof(browser)
        assert stack.snapshot()["profit"][0][0] == begun_s, "the restarts have forgotten it"
        assert compare(stack).startswith("equal"), compare(stack)

        browser.type("#seek", "300")
        browser.click("#seek-go")
        browser.wait("another run", lambda: browser.text("#run-id").startswith("walk.2"), 30)
        wait_for_proof(browser)
        assert browser.text("#stream") == "live", "the page stayed open"
        assert stack.snapshot()["profit"][0][0] > begun_s, "another run has its own"
        assert compare(stack).startswith("equal"), compare(stack)


def test_a_broken_order_is_the_first_difference_in_red(browser: Browser, tmp_path: Path) -> None:
    with PageStack(tmp_path, replay="walk", pace="500/s") as stack:
        stack.wait_page()
        stack.wait_until("orders", lambda: stack.counter("order_manager", "orders_acked") > 20, 60)
        stack.hold_restarts()
        assert stack.signal("order_manager", signal.SIGKILL)
        store = apsw.Connection(str(tmp_path / "orders.sqlite3"))
        store.set_busy_timeout(5000)
        (order_id,) = next(store.execute("SELECT id FROM orders WHERE order_no = 5"))
        store.execute("UPDATE orders SET qty = qty + 3 WHERE order_no = 5")
        store.close()
        stack.allow_restarts()
        browser.open(stack.url)
        browser.wait("red", lambda: "bad" in str(browser.find("#proof").get_attribute("class")), 60)
        words = browser.text("#proof-text")
        assert f"order {order_id:,} " in words
        assert "qty" in words
        assert browser.find("#proof .light").get_attribute("data-light") == "bad"


def test_a_stream_that_breaks_says_so_and_heals(browser: Browser, tmp_path: Path) -> None:
    with PageStack(tmp_path, replay="walk", pace="100/s") as stack:
        stack.wait_page()
        browser.open(f"{stack.url}/?symbol=META")
        assert stack.signal("dashboard", signal.SIGSTOP)
        browser.wait("lost", lambda: "lost" in browser.text("#stream"))
        assert "what you see is from" in browser.text("#notice")
        assert stack.signal("dashboard", signal.SIGCONT)
        browser.wait("live", lambda: browser.text("#stream") == "live")
        assert stack.signal("dashboard", signal.SIGKILL)
        browser.wait("lost", lambda: "lost" in browser.text("#stream"))
        browser.wait("live", lambda: browser.text("#stream") == "live", 30)
        assert browser.text("#notice") == ""
        assert browser.find("#symbol").get_property("value") == "META"


def test_a_token_opens_the_page(browser: Browser, tmp_path: Path) -> None:
    token = "operator-token-0123456789"
    (tmp_path / "tokens").write_text(f"{token} role=operator\nother-token-0123 client=bob\n")
    with PageStack(
        tmp_path / "out", replay="walk", order_token_file=str(tmp_path / "tokens")
    ) as stack:
        stack.wait_page()
        browser.driver.get(stack.url)
        browser.wait("the form", lambda: browser.text("#login h1"))
        browser.type("#token", "no-token-0123456789")
        browser.find("#login button").click()
        browser.wait("why not", lambda: "wrong token" in browser.text("#said"))
        browser.type("#token", token)
        browser.find("#login button").click()
        browser.wait("live", lambda: browser.text("#stream") == "live")
        browser.click("#logout")
        browser.wait("the form", lambda: browser.text("#login h1"))
