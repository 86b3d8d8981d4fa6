"""What the tests of this folder share, and leave unchanged: a running stack, and SBOMs."""

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.compose_stack import IMAGES, SERVICES, ComposeStack
from tests.support.paths import ROOT


def make(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a target of the Makefile."""
    return subprocess.run(
        ["make", "--silent", *arguments],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture(scope="package")
def running(images: None) -> Iterator[ComposeStack]:
    """A stack at full pace, without an end."""
    stack = ComposeStack(PACE="max", REPLAY="walk")
    try:
        stack.up()
        yield stack
    finally:
        stack.destroy()


@pytest.fixture(scope="package")
def sboms(images: None) -> dict[str, str]:
    """The SBOM of each image, as JSON."""
    done = make("sbom")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = ROOT / "build/sbom"
    return {s: (folder / f"{IMAGES[s]}.cdx.json").read_text() for s in SERVICES}
