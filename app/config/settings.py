"""All settings: their ranges and defaults, and which of them go together."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self, get_type_hints

import msgspec
from msgspec import Meta

from app.config.addresses import shown_address
from app.config.bus import bus_problems
from app.config.kinds import (
    PACE,
    CpuList,
    Money,
    MoneyOrNone,
    Name,
    NonNegative,
    Percent,
    Port,
    Positive,
    Qty,
    Seconds,
    StreamBytes,
    allowed,
    is_zero,
    qty_problem,
)
from app.config.live import live_problems
from app.config.verdict import verdict_problems
from app.model.money import to_units


class SettingsError(Exception):
    """The settings are invalid; the message has one line per problem."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Configuration of the whole stack; each process uses the part it needs."""

    # Network
    gateway_host: str = "127.0.0.1"
    order_manager_host: str = "127.0.0.1"
    bind_host: str = "127.0.0.1"
    publish_feed_open: bool = False
    price_port: Port = 9001
    sentiment_port: Port = 9002
    order_port: Port = 62000
    dashboard_host: str = ""
    dashboard_port: Port = 8080
    control_port: Port = 9003

    # Data and pace
    data_path: str = "data/market_data.csv"
    sentiment_path: str = ""
    timestamp_column: str = "timestamp"
    symbol_column: str = "symbol"
    price_column: str = "price"
    sentiment_column: str = "sentiment"
    data_symbol: str = ""
    data_header: str = ""
    data_kind: Literal["auto", "ticks", "bars", "quotes", "wide"] = "auto"
    bars_as: Literal["close", "ohlc"] = "close"
    quotes_as: Literal["mid", "last"] = "mid"
    timestamp_format: str = ""
    data_date: Annotated[str, Meta(pattern=r"^(\d{4}-\d\d-\d\d)?$", description="YYYY-MM-DD")] = ""
    decimal_comma: bool = False
    data_memory_bytes_max: NonNegative = 64 * 1024 * 1024
    data_spill_dir: str = ""
    sort_rows: bool = False
    skip_bad_rows: bool = False
    live_symbols: str = ""
    live_map: str = "binance"
    live_subscribe: str = ""
    live_record: str = ""
    live_ca_file: str = ""
    live_ping_s: Seconds = 20.0
    sentiment_every_ticks: Positive = 10
    seed: NonNegative = 42
    pace: Annotated[
        str,
        Meta(
            pattern=PACE,
            description="max, ticks per second (1000/s), or a multiple of event time (60x)",
        ),
    ] = "1000/s"
    start_paused: bool = False
    replay: Literal["once", "loop", "walk"] = "walk"
    price_subscribers: NonNegative = 1
    sentiment_subscribers: NonNegative = 1
    client_buffer_limit_bytes: Positive = 8 * 1024 * 1024
    client_stall_timeout_s: Seconds = 1.0
    gateway_clients_max: Positive = 1024

    # Shared memory
    shm_price_book: Name = "price_book"
    shm_metadata: Name = "trading_metadata"
    shm_tick_ring: Name = "tick_ring"
    shm_metrics: Name = "trading_metrics"
    ring_capacity_ticks: Annotated[int, Meta(ge=1024, le=1 << 26)] = 65536
    ring_policy: Literal["lossless", "latest"] = "lossless"
    reader_grace_s: Seconds = 30.0
    attach_timeout_s: Seconds = 60.0
    trace_orders: Annotated[int, Meta(ge=0, le=1 << 20)] = 4096

    # Strategy
    strategy: Annotated[
        str,
        Meta(
            pattern=r"^[^:]+:[A-Za-z_][A-Za-z0-9_]*$",
            description="module:Class or path/to/file.py:Class",
        ),
    ] = "app.strategy.cross_check:CrossCheck"
    strategy_client: Annotated[
        str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,32}$", description="1 to 32 of A-Z a-z 0-9 _ . -")
    ] = "strategy"
    strategy_params: str = ""
    short_window_ticks: Positive = 5
    long_window_ticks: Positive = 20
    bullish_threshold: Percent = 50
    bearish_threshold: Percent = 50
    qty_decimals: Annotated[int, Meta(ge=0, le=9)] = 0
    order_qty: Qty = 10
    order_mode: Literal["position", "every"] = "position"
    sentiment_join: Literal["event", "arrival"] = "event"
    order_timeout_s: Seconds = 5.0

    # Order manager: store and group commit
    order_store_path: str = ""
    order_store_synchronous: Literal["FULL", "NORMAL"] = "FULL"
    order_store_keep_days: Annotated[int, Meta(ge=0, le=36_500)] = 0
    order_store_free_bytes_min: NonNegative = 256 * 1024 * 1024
    order_group_max: Annotated[int, Meta(ge=1, le=4096)] = 256
    run_id: Annotated[
        str,
        Meta(pattern=r"^[A-Za-z0-9_.-]{0,64}$", description="up to 64 of A-Z a-z 0-9 _ . -"),
    ] = ""
    run_dir: str = ""
    trading_mode: Literal["replay", "live"] = "replay"

    # Order manager: access and connections; 0 means no limit
    order_published_host: str = ""
    order_token_file: str = ""
    order_tls_cert_file: str = ""
    order_tls_key_file: str = ""
    order_tls_ca_file: str = ""
    order_connections_max: Positive = 10_100
    order_clients_max: Positive = 10_000
    order_frames_in_flight_max: Positive = 1024
    order_frames_per_s_max: NonNegative = 0
    order_unsent_bytes_max: Positive = 256 * 1024
    order_input_bytes_max: Annotated[int, Meta(ge=1024 * 1024)] = 64 * 1024 * 1024
    order_idle_timeout_s: Annotated[float, Meta(ge=0, le=86400)] = 0.0

    # Order manager: where orders execute, and paper execution of MARKET and LIMIT orders
    venue: Literal["paper", "echo"] = "paper"
    paper_slippage_bps: Annotated[float, Meta(ge=0, le=10_000)] = 0.0
    paper_fill_percent: Annotated[int, Meta(ge=1, le=100)] = 100
    paper_half_spread_bps: Annotated[float, Meta(ge=0, le=10_000)] = 0.0
    paper_fee_per_share: Annotated[float, Meta(ge=0, le=1_000_000)] = 0.0
    paper_fee_bps: Annotated[float, Meta(ge=0, le=10_000)] = 0.0
    paper_fee_min: Annotated[float, Meta(ge=0, le=1_000_000)] = 0.0
    paper_impact_bps: Annotated[float, Meta(ge=0, le=10_000)] = 0.0
    paper_impact_qty: Annotated[float, Meta(ge=0, le=1e12)] = 0.0
    paper_borrow_bps_year: Annotated[float, Meta(ge=0, le=1_000_000)] = 0.0
    paper_latency_ms: Annotated[float, Meta(ge=0, le=86_400_000)] = 0.0
    book_poll_ms: Positive = 10

    # Order manager: limits per client and for the whole stack; 0 means no limit
    risk_known_symbols: bool = True
    risk_tick_size: Money = 0.0
    risk_lot_size: Qty = 0
    risk_price_collar_bps: Annotated[float, Meta(ge=0)] = 0.0
    risk_price_age_ms_max: NonNegative = 0
    risk_client_qty_max: Qty = 1_000_000_000
    risk_stack_qty_max: Qty = 0
    risk_client_notional_max: Money = 0.0
    risk_stack_notional_max: Money = 0.0
    risk_client_position_qty_max: Qty = 0
    risk_stack_position_qty_max: Qty = 0
    risk_client_exposure_max: Money = 0.0
    risk_stack_exposure_max: Money = 0.0
    risk_client_open_orders_max: NonNegative = 10_000
    risk_stack_open_orders_max: NonNegative = 100_000
    risk_client_daily_loss_max: Money = 0.0
    risk_stack_daily_loss_max: Money = 0.0
    risk_client_orders_per_s_max: NonNegative = 0
    risk_stack_orders_per_s_max: NonNegative = 0
    risk_client_repeats_max: NonNegative = 0
    risk_stack_repeats_max: NonNegative = 0
    risk_repeat_window_s: Seconds = 1.0
    risk_symbols_max: NonNegative = 100_000

    # Verdict of a run with REPLAY=once
    expect_orders_min: NonNegative = 0
    expect_fills_min: NonNegative = 0
    expect_refused_max: Annotated[
        str, Meta(pattern=r"^[0-9]{0,15}$", description="a number of orders, or empty")
    ] = ""
    expect_pnl_min: MoneyOrNone = ""
    expect_pnl_max: MoneyOrNone = ""
    expect_trades_hash: Annotated[
        str, Meta(pattern=r"^([0-9a-f]{16})?$", description="16 hex digits (0-9, a-f), or empty")
    ] = ""
    deadline_s: Annotated[float, Meta(ge=0, le=604_800)] = 0.0
    stall_timeout_s: Seconds = 30.0

    # Liveness; at least 1 s, since the gateway sends a heartbeat twice a second
    heartbeat_timeout_s: Annotated[float, Meta(ge=1, le=86400)] = 3.0
    reconnect_delay_ms: Positive = 50
    reconnect_delay_ms_max: Positive = 2000

    # Bus between shards and machines (NATS JetStream); an empty BUS_URL: none
    bus_url: str = ""
    bus_user: str = ""
    bus_password: str = ""
    bus_creds: str = ""
    bus_tls_ca: str = ""
    bus_api: Annotated[
        str,
        Meta(
            pattern=r"^[$A-Za-z0-9_-]{1,32}(\.[A-Za-z0-9_-]{1,32}){0,7}$",
            description="a NATS subject such as $JS.API",
        ),
    ] = "$JS.API"
    bus_replicas: Annotated[
        Literal[1, 3, 5], Meta(description="1, 3 or 5 copies of each message")
    ] = 3
    bus_feed_bytes_max: StreamBytes = 512 << 20
    bus_orders_bytes_max: StreamBytes = 512 << 20
    bus_metrics_port: Port = 0
    shard: Annotated[
        str, Meta(pattern=r"^[a-z0-9-]{0,32}$", description="up to 32 of a-z 0-9 -, or empty")
    ] = ""
    shard_map: str = ""
    on_bus_loss: Literal["continue", "reduce", "halt"] = "continue"
    bus_loss_s: Seconds = 15.0

    # Portfolio: the view over all shards; 0 means no limit
    portfolio_host: str = ""
    portfolio_port: Port = 8081
    portfolio_store_path: str = ""
    portfolio_exposure_max: Money = 0.0
    portfolio_daily_loss_max: Money = 0.0
    portfolio_on_limit: Literal["reduce", "halt"] = "reduce"

    # Faults on request
    chaos: bool = False

    # Placement: CPU lists as in `taskset -c`; empty means any CPU
    gateway_cpus: CpuList = ""
    orderbook_cpus: CpuList = ""
    strategy_cpus: CpuList = ""
    order_manager_cpus: CpuList = ""

    # Output
    output_dir: str = "data/out"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["text", "json"] = "text"

    def problems(self) -> list[str]:
        """What is wrong with the combination of settings, one line per problem."""
        found = []
        if self.short_window_ticks >= self.long_window_ticks:
            found.append(
                f"SHORT_WINDOW_TICKS={self.short_window_ticks}: must be below "
                f"LONG_WINDOW_TICKS={self.long_window_ticks}"
            )
        if self.bearish_threshold > self.bullish_threshold:
            found.append(
                f"BEARISH_THRESHOLD={self.bearish_threshold}: must not be above "
                f"BULLISH_THRESHOLD={self.bullish_threshold}"
            )
        if self.ring_capacity_ticks & (self.ring_capacity_ticks - 1):
            found.append(
                f"RING_CAPACITY_TICKS={self.ring_capacity_ticks}: must be a power of two, "
                f"e.g. {1 << self.ring_capacity_ticks.bit_length()}"
            )
        names = [self.shm_price_book, self.shm_metadata, self.shm_tick_ring, self.shm_metrics]
        names.append(self.shm_trace)
        if len(set(names)) != len(names):
            found.append(f"SHM_*: the five segment names must differ, got {', '.join(names)}")
        found.extend(self._order_problems())
        found.extend(verdict_problems(self))
        found.extend(live_problems(self))
        found.extend(bus_problems(self))
        if is_zero(self.pace):
            found.append(f"PACE={self.pace}: must be above zero, or 'max'")
        return found

    def _order_problems(self) -> list[str]:
        quantities = (name for name, kind in get_type_hints(type(self)).items() if kind == Qty)
        checked = (qty_problem(each, getattr(self, each), self.qty_decimals) for each in quantities)
        found = [problem for problem in checked if problem]
        if self.risk_price_collar_bps and not self.risk_price_age_ms_max:
            found.append(
                f"RISK_PRICE_COLLAR_BPS={self.risk_price_collar_bps:g}: a collar needs "
                "RISK_PRICE_AGE_MS_MAX, so that it is applied to a fresh price"
            )
        if self.paper_impact_bps and not to_units(self.paper_impact_qty):
            found.append(
                f"PAPER_IMPACT_BPS={self.paper_impact_bps:g}: needs PAPER_IMPACT_QTY, the size of "
                "an order whose price is worse by that much"
            )
        if bool(self.order_tls_cert_file) != bool(self.order_tls_key_file):
            found.append("ORDER_TLS_CERT_FILE, ORDER_TLS_KEY_FILE: set both or neither")
        return found

    @property
    def is_exchange(self) -> bool:
        """Whether the prices come from an exchange's websocket."""
        return "ws://" in self.data_path or "wss://" in self.data_path

    @property
    def is_bus(self) -> bool:
        """Whether the prices come from the bus."""
        return "nats://" in self.data_path

    @property
    def is_live(self) -> bool:
        """Whether ticks arrive while the run goes on, and are recorded."""
        return self.is_exchange or self.is_bus

    @property
    def shown_data_path(self) -> str:
        """DATA_PATH for logs and reports: of an address, without what may be secret."""
        path = self.data_path
        return shown_address(path.split()[0]) if "://" in path else path

    @property
    def shm_trace(self) -> str:
        """The segment with the trace of orders; each stack has its own, beside its metrics."""
        return f"{self.shm_metrics.removesuffix('_metrics')}_trace"

    @property
    def resends_run(self) -> bool:
        """Whether a restarted or late strategy sends the orders of the whole run again."""
        return self.trading_mode == "replay" and self.ring_policy == "lossless"

    @property
    def limits_value_holdings(self) -> bool:
        """Whether a limit needs the prices of all that is held: strategies then send them."""
        return any(
            (
                self.risk_client_exposure_max,
                self.risk_client_daily_loss_max,
                self.risk_stack_exposure_max,
                self.risk_stack_daily_loss_max,
            )
        )

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Build from a mapping of environment names to values.

        Raises:
            SettingsError: lists every invalid value and the reason.
        """
        values: dict[str, object] = {}
        problems: list[str] = []
        for field, kind in get_type_hints(cls, include_extras=True).items():
            text = environ.get(field.upper())
            if text is None:
                continue
            try:
                values[field] = msgspec.convert(text.strip(), kind, strict=False)
            except msgspec.ValidationError as error:
                problems.append(f"{field.upper()}={text}: {allowed(kind) or error}")
        if not problems:
            settings = cls(**values)  # type: ignore[arg-type]
            problems = settings.problems()
            if not problems:
                return settings
        raise SettingsError("\n".join(problems))

    def to_environ(self) -> dict[str, str]:
        """The environment that gives a child process these settings."""
        return {
            name.upper(): str(value).lower() if isinstance(value, bool) else str(value)
            for name, value in msgspec.structs.asdict(self).items()
        }
