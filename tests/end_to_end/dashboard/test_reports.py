"""The reports of a run and of a sweep in a real browser, from the disk: nothing else is asked for,
axe finds nothing, a symbol is chosen, a hostile name is only text."""

from pathlib import Path

import pytest

from app.__main__ import main
from app.backtest import run
from tests.app.backtest.performance.test_daily import days_file
from tests.app.backtest.results.page.test_run_page import EVIL, hostile
from tests.end_to_end.dashboard.browser import PHONE, PROJECTOR, Browser
from tests.end_to_end.dashboard.test_accessibility import violations
from tests.support.paths import ROOT

pytestmark = [pytest.mark.medium, pytest.mark.timeout(180)]

SAMPLE = ROOT / "data" / "market_data.csv"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reports of a run of a day with many symbols, of many days with refusals, and of a sweep."""
    made = tmp_path_factory.mktemp("reports")
    run(SAMPLE, paper_fee_bps=1.0).to_html(made / "day.html")
    days = days_file(made, 300)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        result = run(days, params="short=2 long=5", risk_client_notional_max=1100.0)
        result.to_html(made / "days.html")
        arguments = ["--param", "short=2,3", "--param", "long=5,8", "--param", "bullish=50,60"]
        arguments += ["--data", str(days), "--folds", "3", "--jobs", "2", "--out", str(made)]
        assert main(["sweep", *arguments]) == 0
    return made


def look(browser: Browser, page: Path) -> None:
    """Open it with every closed part opened."""
    browser.addresses(), browser.problems()  # Forget the pages before.
    browser.driver.get(page.as_uri())
    browser.script("for (const each of document.querySelectorAll('details')) each.open = true")


@pytest.mark.parametrize("size", [PHONE, PROJECTOR], ids=["phone", "projector"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["day", "days", "report"])
def test_axe_finds_nothing_and_nothing_is_loaded(
    browser: Browser, folder: Path, name: str, scheme: str, size: tuple[int, int]
) -> None:
    browser.driver.get("about:blank")
    browser.resize(size)
    browser.prefer(scheme)
    page = folder / f"{name}.html"
    look(browser, page)
    assert browser.addresses() - {"data:,"} == {page.as_uri()}
    assert browser.problems() == []
    wider = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.script(wider) == 0, "only tables scroll sideways"
    assert len(browser.all("svg[role=img]")) == (
        0 if name == "report" else 4 + (10, 2)[name == "days"]
    )
    ground = browser.script("return getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") is (scheme == "light")
    assert violations(browser) == []


def test_one_symbol_is_shown_and_another_can_be_chosen(browser: Browser, folder: Path) -> None:
    browser.resize(PROJECTOR)
    look(browser, folder / "day.html")
    names = [label.text for label in browser.all(".symbols label")]
    assert len(names) == 10

    def visible() -> list[str]:
        parts = browser.all(".prices > div")
        return [part.text.partition(":")[0] for part in parts if part.is_displayed()]

    assert visible() == [names[0]]
    browser.click("#symbol-3")
    assert visible() == [names[3]]


def test_every_mark_is_on_the_chart_at_its_price(browser: Browser, folder: Path) -> None:
    """The triangles are not stretched, and lie within the chart."""
    browser.resize(PHONE)
    look(browser, folder / "day.html")
    sizes = browser.script(
        "const box = document.querySelector('.price-0 .chart').getBoundingClientRect();"
        "return [...document.querySelectorAll('.price-0 .chart svg path:is(.buy, .sell)')].map("
        "(mark) => { const at = mark.getBoundingClientRect();"
        " const x = at.x + at.width / 2, y = at.y + at.height / 2;"
        " return [at.width, at.height, x >= box.left - 1 && x <= box.right + 1"
        " && y >= box.top && y <= box.bottom] })"
    )
    assert len(sizes) > 20
    assert all(10 < width < 13 and 9 < height < 12 and inside for width, height, inside in sizes)


def test_a_hostile_name_is_only_text(browser: Browser, tmp_path: Path) -> None:
    look(browser, hostile(tmp_path))
    assert browser.driver.title == "Backtest: Noted"
    assert browser.all("script, img") == []
    assert EVIL[:20] in browser.text("header")
    assert browser.problems() == []


def test_it_prints_in_light_with_all_its_parts(browser: Browser, folder: Path) -> None:
    browser.prefer("dark")
    browser.driver.get((folder / "days.html").as_uri())
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        look = "return getComputedStyle(document.querySelector('.report')).colorScheme"
        assert browser.script(look) == "light"
        assert not browser.find(".symbols").is_displayed()
        assert browser.find("section h2").is_displayed()
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
