"""The name that a run's orders are sent under."""

import threading
import time
from collections.abc import Callable

import msgspec
import pytest

from app.config.settings import Settings
from app.runtime.lifecycle import FatalError, Stop
from app.runtime.metrics.process_metrics import ProcessMetrics
from app.strategy.attach import ADDED_LATER, attach, decides_orders, fingerprint
from tests.support.children import eventually

NEUTRAL = (
    "gateway_", "order_manager_", "orderbook_", "bind_host", "publish_feed_open", "price_",
    "sentiment_port", "order_port", "control_port", "dashboard_",
    "data_", "bars_as", "quotes_as", "sentiment_path", "timestamp_", "symbol_column",
    "sentiment_column", "decimal_comma",
    "live_",
    "sort_rows", "skip_bad_rows", "sentiment_every_ticks", "seed", "pace", "start_paused", "replay",
    "sentiment_subscribers", "client_", "shm_", "ring_", "reader_grace_s", "attach_timeout_s",
    "trace_orders", "strategy_client", "strategy_cpus", "order_timeout_s", "order_store_",
    "order_group_max", "run_id", "run_dir", "order_published_host", "order_token_file",
    "order_tls_",
    "order_connections_max", "order_clients_max", "order_frames_", "order_unsent_", "order_idle_",
    "order_input_",
    "book_poll_ms", "heartbeat_timeout_s", "reconnect_", "output_dir", "log_",
    "expect_", "deadline_s", "stall_timeout_s", "chaos", "portfolio_",
    "bus_", "shard", "on_bus_loss",
)  # fmt: skip
"""Settings that decide nothing about orders, or that the feed's id stands for."""


@pytest.mark.parametrize("name", Settings.__struct_fields__)
def test_each_setting_decides_orders_or_is_known_not_to(name: str) -> None:
    """A new setting that decides orders and is forgotten would bring another run's answers back."""
    assert decides_orders(name) != name.startswith(NEUTRAL), (
        f"{name}: add it to DECIDING_SETTINGS in app/strategy/attach.py if it decides orders, "
        "else to NEUTRAL here"
    )


def test_settings_that_were_added_later_left_the_names_of_runs_as_they_were() -> None:
    base = Settings(strategy="nowhere.py:Mine")
    assert fingerprint(base, "feed") == "a304bb8a"
    for name, value in ADDED_LATER.items():
        assert getattr(base, name) == value, "the default"
        changed = msgspec.structs.replace(base, **{name: value + 1})
        assert fingerprint(changed, "feed") != fingerprint(base, "feed")


def test_the_fingerprint_follows_what_decides_and_nothing_else() -> None:
    base = Settings()
    known = fingerprint(base, "feed")
    assert fingerprint(base, "other") != known
    for name, value in {"order_qty": 11, "risk_lot_size": 5, "paper_fill_percent": 50}.items():
        assert fingerprint(msgspec.structs.replace(base, **{name: value}), "feed") != known
    for name, value in {"pace": "max", "log_level": "DEBUG", "shm_metrics": "m"}.items():
        assert fingerprint(msgspec.structs.replace(base, **{name: value}), "feed") == known


@pytest.mark.parametrize(
    ("decimals", "texts", "others"),
    [(0, ("10", "10.0", "10.00"), ("11",)), (2, ("1", "1.0", "1.00"), ("1.01", "0.01"))],
)
def test_a_quantity_in_another_spelling_is_the_same_run(
    decimals: int, texts: tuple[str, ...], others: tuple[str, ...]
) -> None:
    def names(*values: str) -> set[str]:
        return {
            fingerprint(
                Settings.from_environ(
                    {"QTY_DECIMALS": str(decimals), "ORDER_QTY": text, "RISK_LOT_SIZE": text}
                ),
                "feed",
            )
            for text in values
        }

    (known,) = names(*texts)
    assert known not in names(*others)
    if not decimals:
        whole = Settings(order_qty=10, risk_lot_size=10)
        assert fingerprint(whole, "feed") == known


@pytest.mark.parametrize("end", [lambda gateway: gateway.set_state("ready"), ProcessMetrics.close])
def test_it_waits_as_long_as_a_gateway_loads(
    name: str, end: Callable[[ProcessMetrics], object]
) -> None:
    """A large file takes minutes.  A gateway that is ready, or has died, is nothing to wait for."""
    settings = Settings(
        shm_metrics=f"{name}_metrics", shm_metadata=f"{name}_metadata", attach_timeout_s=0.1
    )
    errors: list[Exception] = []

    def wait() -> None:
        try:
            attach(settings, strategy, Stop())
        except FatalError as error:
            errors.append(error)

    gateway = ProcessMetrics.open(settings.shm_metrics, "gateway")
    strategy = ProcessMetrics.open(settings.shm_metrics, "strategy")
    gateway.set_state("starting")
    waiting = threading.Thread(target=wait)
    try:
        waiting.start()
        time.sleep(0.5)
        assert waiting.is_alive()
        end(gateway)
        eventually(lambda: errors, "no orderbook", 10)
        assert "no live orderbook" in str(errors[0])
    finally:
        waiting.join(10)
        strategy.close()
        gateway.close()
