"""The README opens with pictures that exist, are small, and are what they are said to be."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from tests.support.paths import ROOT

README = ROOT / "README.md"
if not README.exists():
    pytest.skip("the image has no documentation", allow_module_level=True)

SCREENSHOT_BYTES_MAX, FILM_BYTES_MAX = 200_000, 1_500_000
WIDTHS = range(960, 1201)
FILM_S = (20, 30)


class Pictures(HTMLParser):
    """The files and the alternative texts of the tags in a text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.files: list[Path] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in ("img", "source"):
            self.files.append(ROOT / str(values.get("src" if tag == "img" else "srcset")))
        if tag == "img":
            self.texts.append(str(values.get("alt")))


OPENING = README.read_text().partition("\n## ")[0]
FOUND = Pictures(OPENING)
FILES = {path.name: path for path in FOUND.files}


def length_s(film: Image.Image) -> float:
    """How long it takes to see all frames."""
    total_ms = 0
    for number in range(film.n_frames):
        film.seek(number)
        film.load()
        total_ms += film.info["duration"]
    return total_ms / 1000


def test_the_readme_opens_with_them() -> None:
    assert [path.name for path in FOUND.files] == ["page-dark.webp", "page-light.webp", "kill.webp"]
    first, second = OPENING.split("\n\n")[1:3]
    assert re.match(r"[A-Z]", first), "a sentence says what this is"
    assert second.startswith("<picture>")


def test_nothing_else_lies_beside_them() -> None:
    assert sorted(FILES) == sorted(path.name for path in (ROOT / ".github/pictures").iterdir())


def test_their_texts_tell_the_story() -> None:
    screenshot, film = FOUND.texts
    assert "four processes" in screenshot
    assert all(word in film for word in ("Kill", "strategy", "order manager", "Same trades"))


@pytest.mark.parametrize("name", ["page-dark.webp", "page-light.webp"])
def test_a_screenshot_is_small_and_in_its_theme(name: str) -> None:
    assert FILES[name].stat().st_size < SCREENSHOT_BYTES_MAX
    with Image.open(FILES[name]) as picture:
        assert picture.width in WIDTHS
        red, green, blue = picture.convert("RGB").resize((1, 1)).getpixel((0, 0))
    assert (red + green + blue < 3 * 128) == ("dark" in name)


def test_the_recording_is_small_and_takes_its_time() -> None:
    assert FILES["kill.webp"].stat().st_size < FILM_BYTES_MAX
    with Image.open(FILES["kill.webp"]) as film:
        assert film.width in WIDTHS
        assert film.info["loop"] == 0, "it begins again"
        assert FILM_S[0] <= length_s(film) <= FILM_S[1]
