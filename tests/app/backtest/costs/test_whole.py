"""Without QTY_DECIMALS every byte is what it was before quantities could have decimals."""

from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryFile

import pytest

from app.backtest import replay as backtest
from app.backtest import report
from app.backtest.broker import PaperBroker
from app.config.settings import Settings
from app.market_data.sources.loader import open_feed
from app.model.orders import Order
from app.model.wire.order_answers import encode_ack, listed_order
from app.order_manager.order_log import OrderLog
from app.runtime.net.order_client import EncodedOrder
from tests.app.backtest.costs.independent import settings_of
from tests.app.backtest.costs.test_costs import PLACE, SAMPLE


def digest(data: bytes) -> str:
    return sha256(data).hexdigest()[:16]


def log_of(orders: list[Order]) -> bytes:
    lines = b""
    for form in ("text", "json"):
        with TemporaryFile() as file:
            log = OrderLog(form, descriptor=file.fileno())
            log.write([("Received", order, "c") for order in orders], 0)
            log.drain()
            file.seek(0)
            lines += file.read()
    return lines


def test_frames_log_lines_rows_and_files_are_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digests are those of the program before the setting."""
    sent: list[bytes] = []

    class Noting(PaperBroker):
        def submit(self, encoded: EncodedOrder, now_ns: int) -> Order:
            sent.append(encoded.frame)
            return super().submit(encoded, now_ns)

    monkeypatch.setattr(backtest, "PaperBroker", Noting)
    costs: dict[str, object] = dict(settings_of())
    settings = Settings(
        data_path=str(SAMPLE),
        replay="once",
        strategy=f"{PLACE}:Told",
        **costs,  # type: ignore[arg-type]
    )
    feed = open_feed(settings)
    result = backtest.run(settings, feed)
    answers = b"".join(
        encode_ack(order, "c") + listed_order(order, "c").encode() for order in result.orders
    )
    first = [order for order in result.orders if order.id <= 5000]
    assert result.trades_hash == "dd2dd8922bcef4cc"
    assert digest(report.write_orders(result, tmp_path).read_bytes()) == "8067a8c09a375858"
    assert digest(repr([order.row() for order in result.orders]).encode()) == "8771eb2606956120"
    assert digest(answers) == "50f17950c563e6cb"
    assert len(first) == 437
    assert digest(b"".join(sent[:437])) == "99d3dbebde990b37"
    assert digest(log_of(first)) == "3a7ff20c0b591202"
