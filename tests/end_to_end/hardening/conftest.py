"""One endless stack for the tests of this folder, which leave it unchanged."""

from collections.abc import Iterator

import pytest

from tests.support.compose_stack import ComposeStack


@pytest.fixture(scope="package")
def running(images: None) -> Iterator[ComposeStack]:
    """A stack at full pace."""
    stack = ComposeStack(PACE="max", REPLAY="walk")
    try:
        stack.up()
        yield stack
    finally:
        stack.destroy()
