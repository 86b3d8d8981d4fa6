"""A browser, and a stack that it looks at."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.dashboard.browser import Browser, open_browser
from tests.end_to_end.dashboard.page_stack import PageStack


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One for all tests of a file."""
    yield from open_browser(tmp_path_factory.mktemp("profile"))


@pytest.fixture(scope="module")
def stack(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageStack]:
    """It refuses some orders, its trades cost something, and it fails on request."""
    folder: Path = tmp_path_factory.mktemp("stack")
    costs = {"paper_fee_per_share": 0.01, "paper_slippage_bps": 0.5, "paper_impact_bps": 1}
    costs |= {"paper_impact_qty": 10, "paper_borrow_bps_year": 100_000}
    with PageStack(
        folder, replay="walk", pace="200/s", chaos=True, risk_client_notional_max=3000, **costs
    ) as made:
        made.wait_page()
        yield made
