"""``make pictures``: the README's pictures, made from the page of a real stack on this host.

A screenshot in both themes, then a recording in which the strategy and the order manager are killed
by their buttons.  Nothing is written unless everything that the README says of them has happened.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

from tests.end_to_end.dashboard.browser import Browser
from tests.end_to_end.dashboard.page_stack import PageStack
from tests.end_to_end.dashboard.pictures.film import Camera
from tests.support.paths import ROOT

FOLDER = ROOT / ".github/pictures"
WIDTH, HEIGHT, SCALE = 1000, 800, 1.2
"""Of the window; 1200 pixels, which are shown as about 900: text stays readable."""
SETTINGS = {
    "replay": "walk",
    "pace": "100/s",
    "chaos": True,
    "run_id": "demo",
    "risk_stack_exposure_max": 25_000,
    "risk_stack_daily_loss_max": 500,
    "risk_stack_open_orders_max": 100,
}
SYMBOL = "AAPL"
FILM_S = 23.0
WARM_UP_S = 30.0
"""Until the charts have something to show."""
FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig>
  <include ignore_missing="yes">/etc/fonts/fonts.conf</include>
  <match target="pattern">
    <test qual="any" name="family" compare="not_contains"><string>Mono</string></test>
    <edit name="family" mode="prepend" binding="strong"><string>Inter</string></edit>
  </match>
</fontconfig>
"""
"""A desktop's font for the page, if it is installed (fonts-inter); else the system's."""


class Page:
    """What the recording asks the page."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser

    def light(self, selector: str) -> str:
        """Of a card or of the proof."""
        found = self._browser.find(f"{selector} .light").get_attribute("data-light")
        return str(found)

    def restarts(self, service: str) -> str:
        """As its card counts them."""
        return self._browser.text(f"#stage-{service} dl div:nth-child(4) dd")

    def is_proven(self) -> bool:
        """Whether the page says that the trades are the same."""
        return self.light("#proof") == "ok" and self._browser.text("#proof-text").startswith(
            "Same trades"
        )


def set_window(browser: Browser, height: int) -> None:
    """Size and sharpness, without scroll bars."""
    values = {"width": WIDTH, "height": height, "deviceScaleFactor": SCALE, "mobile": False}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", values)
    browser.driver.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})


def fit_window(browser: Browser, last: str, more: int) -> None:
    """Make it end so many pixels below an element."""
    code = "return document.querySelector(arguments[0]).getBoundingClientRect().bottom"
    set_window(browser, round(browser.script(code, last)) + more)


def kill(camera: Camera, page: Page, service: str) -> None:
    """Kill a process by its button; film until it is back and the proof still holds."""
    card = f"#stage-{service}"
    camera.move_to(f"{card} button.kill", 1.0)
    camera.roll(0.5)
    camera.click()
    camera.until(f"{service} is seen to be away", lambda: page.light(card) != "ok")
    camera.until(f"{service} is restarted", lambda: page.restarts(service) == "1")
    camera.until(f"{service} is back", lambda: page.light(card) == "ok")
    camera.until("same trades", page.is_proven)


def take_screenshots(browser: Browser, camera: Camera, output: Path) -> None:
    """In both themes, down to the end of the price chart's panel."""
    fit_window(browser, "#price", 8)
    for scheme in ("dark", "light"):
        browser.prefer(scheme)
        time.sleep(1.0)  # the charts are painted anew
        camera.shot().save(output / f"page-{scheme}.webp", lossless=True, method=6)


def make(folder: Path, output: Path) -> None:
    """Run the stack and take the pictures."""
    with PageStack(folder / "stack", **SETTINGS) as stack:
        browser = Browser(folder / "profile")
        try:
            stack.wait_page()
            set_window(browser, HEIGHT)
            browser.prefer("light")
            browser.open(f"{stack.url}/?symbol={SYMBOL}")
            camera, page = Camera(browser, SCALE), Page(browser)
            time.sleep(WARM_UP_S)
            browser.wait("same trades", page.is_proven, 30)
            fit_window(browser, "#price-chart", 3)
            camera.place((WIDTH * 0.62, HEIGHT * 0.55))
            camera.roll(1.5)
            kill(camera, page, "strategy")
            camera.roll(3.0)
            kill(camera, page, "order_manager")
            camera.roll(2.0)
            camera.move_to("#proof-text", 1.0)
            camera.roll(max(FILM_S - camera.seconds(), 4.0))
            assert page.is_proven(), browser.text("#proof")
            take_screenshots(browser, camera, output)
            assert browser.problems() == []
            verdict = stack.command("compare")
            assert verdict.stdout.startswith("equal"), verdict.stdout + verdict.stderr
            print(f"pictures: {camera.seconds():.0f} s; compare says {verdict.stdout.strip()}")
        finally:
            browser.close()
    camera.save(output / "kill.webp", quality=60)


def main() -> None:
    """All or nothing."""
    with tempfile.TemporaryDirectory(prefix="pictures") as name:
        folder = Path(name)
        fonts = folder / "fonts.conf"
        fonts.write_text(FONTS)
        os.environ["FONTCONFIG_FILE"] = str(fonts)
        output = folder / "output"
        output.mkdir()
        make(folder, output)
        FOLDER.mkdir(exist_ok=True)
        for made in sorted(output.iterdir()):
            (FOLDER / made.name).write_bytes(made.read_bytes())
            print(f"pictures: {FOLDER / made.name}: {made.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    sys.exit(main())
