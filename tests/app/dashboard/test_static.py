"""The page's files: what is vendored is what it says, and nothing is loaded from elsewhere."""

import hashlib
import re
from pathlib import Path

import pytest

from app.dashboard.serving.access import HEADERS
from app.dashboard.serving.static_files import load_static
from tests.support.paths import ROOT

STATIC = ROOT / "app/dashboard/static"
VENDORED = {
    STATIC / "vendor": ROOT / "app/dashboard/README.md",
    ROOT / "tests/end_to_end/dashboard/axe": ROOT / "tests/README.md",
}
"""Folder -> the page with its table."""
OWN = sorted(
    path
    for path in STATIC.rglob("*")
    if path.suffix in (".html", ".css", ".js", ".svg") and path.parent.name != "vendor"
)
ROW = re.compile(r"^\| `([^`]+)` \| ([^|]+) \| ([\d.]+) \| ([^|]+) \| `([0-9a-f]{64})` \|", re.M)


@pytest.mark.parametrize("folder", VENDORED, ids=lambda folder: folder.name)
def test_each_vendored_file_has_version_licence_and_hash(folder: Path) -> None:
    page = VENDORED[folder]
    if not page.exists():
        pytest.skip("the image has no documentation")
    rows = {
        name: (version, licence.strip(), digest)
        for name, _, version, licence, digest in ROW.findall(page.read_text())
    }
    assert rows.keys() == {path.name for path in folder.iterdir()}
    for name, (version, licence, digest) in rows.items():
        data = (folder / name).read_bytes()
        assert hashlib.sha256(data).hexdigest() == digest, name
        assert licence in ("MIT", "MPL-2.0")
        if name.endswith(".js"):
            assert f"v{version}".encode() in data[:200]


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_nothing_is_loaded_from_elsewhere_and_nothing_is_inline(path) -> None:
    text = path.read_text()
    for address in re.findall(r"https?://[^\s\"')]+", text):
        assert address in ("http://www.w3.org/2000/svg",), address
    if path.suffix == ".html":
        assert not re.search(r"<script(?![^>]*\bsrc=)", text), "inline script"
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=", text), "inline style or handler"
    if path.suffix == ".js":
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|eval\(|new Function", text)
        assert not re.search(r"setAttribute\(\"style\"", text)
    if path.suffix == ".css":
        assert "url(" not in text
        assert "@import" not in text


def test_the_policy_allows_no_inline_code_and_no_other_origin() -> None:
    policy = dict(HEADERS)["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http:" not in policy
    assert "*" not in policy
    assert "frame-ancestors 'none'" in policy


def test_every_file_that_a_page_names_is_there() -> None:
    known = load_static(STATIC)
    for path in OWN:
        for name in re.findall(r"[\"']/static/([\w./-]+)[\"']", path.read_text()):
            assert name in known, f"{path.name}: {name}"
        if path.suffix == ".js":
            for name in re.findall(r"from \"(\.[\w./-]+)\"", path.read_text()):
                assert (path.parent / name).resolve().is_file(), f"{path.name}: {name}"
