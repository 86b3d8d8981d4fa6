"""Reads the tables of a page, by a parser of its own."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """What a page consists of.

    ``tables``: the cells of each table, row by row, header included; ``captions``: theirs, in the
    same order; ``classes``: the class of the first cell with a text; ``tags``: all names of
    elements; ``attributes``: all of them, as (element, name, value); ``text``: all text outside of
    the style.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.captions: list[str] = []
        self.classes: dict[str, str] = {}
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self._kind, self._open = "", ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "table":
            self.tables.append([])
            self.captions.append("")
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._kind = dict(attrs).get("class") or ""
        if tag in ("td", "th", "caption", "style"):
            self._open = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == self._open:
            self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open == "style":
            return
        self.text += data
        if self._open in ("td", "th"):
            self.tables[-1][-1][-1] += data
            self.classes.setdefault(data, self._kind)
        elif self._open == "caption":
            self.captions[-1] += data

    def table(self, caption: str) -> list[list[str]]:
        """The body of the only table whose caption begins so."""
        found = [rows for name, rows in zip(self.captions, self.tables, strict=True)
                 if name.startswith(caption)]  # fmt: skip
        assert len(found) == 1, (caption, self.captions)
        return found[0][1:]


def outside(page: Page) -> list[tuple[str, str, str]]:
    """What would load something, or run: nothing is expected."""
    loading = {"src", "srcset", "href", "data", "action", "poster", "xlink:href", "background"}
    return [
        (tag, name, value)
        for tag, name, value in page.attributes
        if (name in loading and value != "data:,")
        or name.startswith("on")
        or (name == "style" and "url" in value)
    ]


def number(text: str) -> float:
    """A number as the page shows it, without its unit."""
    return float(text.replace(",", "").removesuffix(" %").removesuffix(" x"))
