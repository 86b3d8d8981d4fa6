"""A real browser, Debian's chromium, that looks at the page."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests.support.children import eventually

PHONE, PROJECTOR = (390, 844), (1920, 1080)
ARGUMENTS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
T = TypeVar("T")


class Browser:
    """One window."""

    def __init__(self, folder: Path) -> None:
        options = Options()
        options.binary_location = str(shutil.which("chromium"))
        for argument in (*ARGUMENTS, f"--user-data-dir={folder}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        service = Service(str(shutil.which("chromedriver")))
        self.driver = webdriver.Chrome(options=options, service=service)
        self.resize(PROJECTOR)

    def resize(self, size: tuple[int, int]) -> None:
        """The size of the window's inside."""
        self._cdp(
            "Emulation.setDeviceMetricsOverride",
            {
                "width": size[0],
                "height": size[1],
                "deviceScaleFactor": 1,
                "mobile": size[0] < 600,
            },
        )

    def prefer(self, scheme: str) -> None:
        """What the system prefers: light or dark."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._cdp("Emulation.setEmulatedMedia", {"features": features})

    def _cdp(self, name: str, values: dict[str, Any]) -> None:
        self.driver.execute_cdp_cmd(name, values)

    def open(self, address: str) -> None:
        """Open a page and wait for its first snapshot."""
        self.driver.get(address)
        self.wait("live", lambda: self.text("#stream") == "live")
        self.wait("a tick", lambda: self.text("#tick") != "-")

    def find(self, selector: str) -> WebElement:
        """The first element."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        """Every element."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        """What a reader sees of an element; empty while it is replaced, or not there yet."""
        with contextlib.suppress(StaleElementReferenceException, NoSuchElementException):
            return self.find(selector).text
        return ""

    def script(self, code: str, *arguments: object) -> Any:
        """The value of a JavaScript function's body."""
        return self.driver.execute_script(code, *arguments)  # type: ignore[no-untyped-call]

    def rows(self, table: str) -> list[list[str]]:
        """The cells of a table's body, read at one moment."""
        code = "return [...document.querySelector(arguments[0]).tBodies[0].rows]"
        found: list[list[str]] = self.script(
            code + ".map((row) => [...row.cells].map((cell) => cell.textContent))", table
        )
        return found

    def type(self, selector: str, value: str) -> None:
        """Replace the value of a field."""
        field = self.find(selector)
        field.clear()
        field.send_keys(value)

    def click(self, selector: str) -> None:
        """Click, wherever the page is scrolled to."""
        self.script("document.querySelector(arguments[0]).click()", selector)

    def wait(self, what: str, get: Callable[[], T], deadline_s: float = 15) -> T:
        """Poll until it is true."""
        ignore = (StaleElementReferenceException, NoSuchElementException)
        return eventually(get, what, deadline_s, poll_s=0.1, ignore=ignore)

    def problems(self) -> list[str]:
        """What the browser has complained about since the last call."""
        return [str(entry["message"]) for entry in self.driver.get_log("browser")]

    def addresses(self) -> set[str]:
        """What was asked for over the network since the last call."""
        found = set()
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                found.add(str(message["params"]["request"]["url"]))
        return found

    def close(self) -> None:
        """End it."""
        self.driver.quit()


def open_browser(folder: Path) -> Iterator[Browser]:
    """A browser; without one the test is skipped, or fails where REQUIRE_BROWSER says so."""
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        reason = "no chromium here: apt-get install chromium chromium-driver"
        if os.environ.get("REQUIRE_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    browser = Browser(folder)
    yield browser
    browser.close()
