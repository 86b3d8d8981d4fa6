"""Frames of the page with their times, the pointer that a screenshot leaves out, and files."""

import base64
import io
import math
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw

from tests.end_to_end.dashboard.browser import Browser

FRAME_S = 0.2
"""The page takes five snapshots a second; more frames would only show the same."""
REST_FRAME_S = 0.4
"""While nothing happens but prices: half the frames, half the bytes."""
CLICK_S = 0.8
ARROW = ((0, 0), (0, 17), (4, 13.5), (6.6, 19.2), (9.2, 18), (6.7, 12.4), (12, 12))
WHITE, BLACK, RED = (255, 255, 255, 255), (20, 24, 32, 255), (208, 40, 40)
SMOOTH = 4
"""The pointer is drawn so many times larger, and made smaller: its edges are smooth."""

Point = tuple[float, float]


class Camera:
    """Films a window, and is the hand on its mouse."""

    def __init__(self, browser: Browser, scale: float) -> None:
        self._browser = browser
        self._scale = scale
        self._at: Point = (0, 0)
        self._clicked_s = -math.inf
        self._frames: list[tuple[float, Image.Image]] = []

    def shot(self) -> Image.Image:
        """What the window shows now."""
        answer = self._browser.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
        return Image.open(io.BytesIO(base64.b64decode(answer["data"]))).convert("RGB")

    def roll(self, seconds: float, each: Callable[[float], None] | None = None) -> None:
        """Film for a while; ``each`` gets the share of it that has passed."""
        begin_s = time.monotonic()
        while (passed_s := time.monotonic() - begin_s) < seconds:
            if each:
                each(passed_s / seconds)
            self._frame(FRAME_S if each else REST_FRAME_S)

    def until(self, what: str, holds: Callable[[], object], deadline_s: float = 20) -> None:
        """Film until it is true.

        Raises:
            AssertionError: it is not within the deadline.
        """
        end_s = time.monotonic() + deadline_s
        while not holds():
            assert time.monotonic() < end_s, f"not within {deadline_s:g} s: {what}"
            self._frame(FRAME_S)

    def place(self, at: Point) -> None:
        """Put the pointer there, while nobody looks."""
        self._at = at
        self._mouse("mouseMoved")

    def move_to(self, selector: str, seconds: float) -> None:
        """Move the pointer to the middle of an element."""
        box = self._browser.script(
            "const box = document.querySelector(arguments[0]).getBoundingClientRect();"
            "return [box.left + box.width / 2, box.top + box.height / 2]",
            selector,
        )
        (from_x, from_y), (to_x, to_y) = self._at, box

        def move(share: float) -> None:
            eased = (1 - math.cos(math.pi * share)) / 2
            self.place((from_x + (to_x - from_x) * eased, from_y + (to_y - from_y) * eased))

        self.roll(seconds, move)
        self.place((to_x, to_y))

    def click(self) -> None:
        """Press where the pointer is, long enough to be seen."""
        self._clicked_s = time.monotonic()
        self._mouse("mousePressed")
        self.roll(0.3)
        self._mouse("mouseReleased")

    def _mouse(self, kind: str) -> None:
        x, y = self._at
        values = {"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1}
        if kind == "mouseMoved":
            values = {"type": kind, "x": x, "y": y}
        self._browser.driver.execute_cdp_cmd("Input.dispatchMouseEvent", values)

    def _frame(self, length_s: float) -> None:
        begin_s = time.monotonic()
        picture = self.shot()
        self._draw_pointer(picture, begin_s)
        self._frames.append((begin_s, picture))
        time.sleep(max(length_s - (time.monotonic() - begin_s), 0))

    def _draw_pointer(self, picture: Image.Image, now_s: float) -> None:
        """The arrow, and for a moment after a click a ring that grows and fades."""
        side = int(64 * self._scale)
        layer = Image.new("RGBA", (side * SMOOTH, side * SMOOTH))
        draw, middle, unit = ImageDraw.Draw(layer), side * SMOOTH / 2, self._scale * SMOOTH
        share = (now_s - self._clicked_s) / CLICK_S
        if share < 1:
            radius = (12 + 17 * share) * unit
            box = [middle - radius, middle - radius, middle + radius, middle + radius]
            ring = (*RED, int(255 * (1 - share * 0.7)))
            draw.ellipse(box, outline=ring, width=int(3 * unit))
        arrow = [(middle + x * unit * 1.25, middle + y * unit * 1.25) for x, y in ARROW]
        draw.polygon(arrow, fill=BLACK)
        draw.line([*arrow, arrow[0], arrow[1]], fill=WHITE, width=int(1.4 * unit), joint="curve")
        layer = layer.resize((side, side), Image.Resampling.LANCZOS)
        corner = [int(at * self._scale - side / 2) for at in self._at]
        picture.paste(layer, (corner[0], corner[1]), layer)

    def seconds(self) -> float:
        """How long the film is."""
        return self._frames[-1][0] - self._frames[0][0] + FRAME_S

    def save(self, path: Path, quality: int) -> None:
        """Write the film, which begins again at its end.

        Equal neighbours become one longer frame.
        """
        times_s = [at_s for at_s, _ in self._frames]
        ends_s = [*times_s[1:], times_s[-1] + FRAME_S]
        pictures: list[Image.Image] = []
        durations_ms: list[int] = []
        for (at_s, picture), end_s in zip(self._frames, ends_s, strict=True):
            if pictures and picture.tobytes() == pictures[-1].tobytes():
                durations_ms[-1] += round((end_s - at_s) * 1000)
                continue
            pictures.append(picture)
            durations_ms.append(round((end_s - at_s) * 1000))
        pictures[0].save(
            path,
            save_all=True,
            append_images=pictures[1:],
            duration=durations_ms,
            loop=0,
            quality=quality,
            method=4,
            kmin=60,  # a whole frame now and then; the others hold only what has changed
            kmax=120,
        )
