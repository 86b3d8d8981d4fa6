"""Which source loads a file."""

from pathlib import Path

import pytest

from app.config.settings import Settings
from app.market_data.sources import loader
from app.market_data.sources.source import ReadProgress
from app.market_data.sources.text import text_file
from app.market_data.tick_table import Columns, Rows

MAGIC = b"TICKS-1\n"
CSV = "timestamp,symbol,{}\n2025-10-01 09:30:00,A,5\n2025-10-01 09:30:01,A,6\n"


class MagicSource:
    """A second format: CSV after eight bytes of its own."""

    def matches(self, head: bytes) -> bool:
        return head.startswith(MAGIC)

    def _as_csv(self, path: Path) -> Path:
        plain = path.with_suffix(".plain")
        plain.write_bytes(path.read_bytes().removeprefix(MAGIC))
        return plain

    def describe(self, path: Path, columns: Columns) -> list[tuple[str, str]]:
        return [("format", "magic")]

    def load_prices(
        self, path: Path, columns: Columns, progress: ReadProgress | None = None
    ) -> Rows:
        return text_file.load_prices(self._as_csv(path), columns, progress)

    def load_sentiments(
        self, path: Path, columns: Columns, progress: ReadProgress | None = None
    ) -> Rows:
        return text_file.load_sentiments(self._as_csv(path), columns, progress)


def write(path: Path, head: bytes, value: str) -> Path:
    path.write_bytes(head + CSV.format(value).encode())
    return path


@pytest.mark.parametrize("prices_head", [b"", MAGIC])
@pytest.mark.parametrize("sentiments_head", [b"", MAGIC])
def test_a_further_source_is_one_row_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prices_head: bytes, sentiments_head: bytes
) -> None:
    monkeypatch.setattr(loader, "SOURCES", [MagicSource(), *loader.SOURCES])
    settings = Settings(
        data_path=str(write(tmp_path / "prices", prices_head, "price")),
        sentiment_path=str(write(tmp_path / "sentiments", sentiments_head, "sentiment")),
        replay="once",
    )
    feed = loader.open_feed(settings)
    assert feed.frame(1) == b"2025-10-01 09:30:01*A*6*"
    assert feed.sentiments(0, 2).endswith(b"2025-10-01 09:30:01*A*6*")
    assert (tmp_path / "prices.plain").exists() == bool(prices_head)
    assert (tmp_path / "sentiments.plain").exists() == bool(sentiments_head)


def test_a_file_of_no_known_format_is_read_as_csv(tmp_path: Path) -> None:
    path = write(tmp_path / "prices", MAGIC, "price")
    with pytest.raises(loader.DataError, match="no column 'timestamp', 'symbol', 'price'"):
        loader.load_prices(path, Columns())
