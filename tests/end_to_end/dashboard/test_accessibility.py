"""axe finds nothing wrong with the page: both themes, two sizes, with dialogs and tables open."""

from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.dashboard.browser import PHONE, PROJECTOR, Browser
from tests.end_to_end.dashboard.page_stack import PageStack

pytestmark = [pytest.mark.medium, pytest.mark.timeout(180)]

AXE = Path(__file__).with_name("axe") / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def violations(browser: Browser) -> list[str]:
    """What axe finds, a line each."""
    browser.script("const module = undefined; const define = undefined; " + AXE.read_text())
    found: list[dict[str, Any]] = browser.driver.execute_async_script(
        "const done = arguments[1];"
        "axe.run(document, {runOnly: arguments[0]}).then((found) => done(found.violations))",
        RULES,
    )
    return [
        f"{each['id']}: {node['target']}: {node['failureSummary']}"
        for each in found
        for node in each["nodes"]
    ]


@pytest.mark.parametrize("size", [PHONE, PROJECTOR], ids=["phone", "projector"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(
    browser: Browser, stack: PageStack, theme: str, size: tuple[int, int]
) -> None:
    browser.resize(size)
    browser.open(f"{stack.url}/?theme={theme}")
    browser.wait("orders", lambda: len(browser.rows("#blotter")) > 3, 60)
    browser.click("#price details summary")
    browser.click("#account details summary")
    assert violations(browser) == []
    browser.click("#blotter tbody button")
    browser.wait("the stages", lambda: len(browser.all(".waterfall li")) >= 9)
    assert violations(browser) == []
    browser.click("#trace-close")
    browser.click("#help-open")
    assert violations(browser) == []
    browser.driver.get(f"{stack.url}/login?theme={theme}")
    browser.wait("the form", lambda: browser.text("#login h1"))
    assert violations(browser) == []


def test_axe_would_find_something(browser: Browser, stack: PageStack) -> None:
    """Without this, the other test would prove nothing."""
    browser.resize(PROJECTOR)
    browser.open(stack.url)
    browser.script("document.body.append(Object.assign(new Image(), {src: '/static/icon.svg'}))")
    assert any(each.startswith("image-alt") for each in violations(browser))
