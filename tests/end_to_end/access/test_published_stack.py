"""A stack whose ports other machines can reach: its own processes, and readers elsewhere."""

import json
import secrets
import signal
from pathlib import Path

import pytest

from tests.chaos.host import HostStack
from tests.end_to_end.situations.model import HASH
from tests.support.certificates import make_certificate
from tests.support.feed_helpers import WireClient
from tests.support.paths import ROOT

pytestmark = pytest.mark.medium

SAMPLE = ROOT / "data" / "market_data.csv"


@pytest.mark.parametrize("gateway_host", ["127.0.0.1", "0.0.0.0"])
def test_with_token_and_tls_the_trades_are_the_same_also_after_kills(
    tmp_path: Path, gateway_host: str
) -> None:
    """0.0.0.0 leads to this host, too, but is no loopback address: as in containers, the gateway
    shows first that it is of the stack, and nobody reads token or certificate for it."""
    cert, key = make_certificate(tmp_path)
    token = tmp_path / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    with HostStack(
        tmp_path / "run",
        data_path=SAMPLE,
        pace="6000/s",
        bind_host="0.0.0.0",
        gateway_host=gateway_host,
        order_token_file=token,
        order_tls_cert_file=cert,
        order_tls_key_file=key,
    ) as stack:
        for service, tick in (("gateway", 3000), ("orderbook", 8000), ("strategy", 14000)):
            stack.wait_until(
                f"tick {tick}",
                lambda tick=tick: stack.counter("strategy", "ticks_consumed") >= tick,  # type: ignore[misc]
                60,
            )
            assert stack.signal(service, signal.SIGKILL)
        with WireClient(stack.price_port, b"RESUME|0*") as stranger:
            assert stranger.read_to_end().startswith(b"REFUSED|TLS is needed")
        assert stack.wait(120) == 0, stack.tail(20)
        log = stack.log_path.read_text()
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["trades_hash"] == HASH
    assert "feed_needs_token" not in log
    assert token.read_text() not in log
