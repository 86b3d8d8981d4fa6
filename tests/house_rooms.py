"""Which room of ``app/`` may import which: the table of app/README.md, exactly."""

MODEL = {"model", "model/wire"}
SHARED = MODEL | {"config", "kernel", "shared_memory_utils"}
RUNTIME = {"runtime"} | {
    f"runtime/{room}"
    for room in (
        "chaos",
        "container",
        "control",
        "net",
        "metrics",
        "run",
        "trace",
        "verdict",
        "web",
    )
}
LIVE = {"market_data/live"} | {
    f"market_data/live/{room}" for room in ("bus", "exchange", "parquet")
}
FEED = (
    {"market_data", "market_data/generated", "market_data/storage", "market_data/sources"}
    | LIVE
    | {f"market_data/sources/{room}" for room in ("columnar", "dbn", "text")}
)
PORTFOLIO = {"portfolio", "portfolio/intake", "portfolio/page"}
PROCESSES = {"gateway", "orderbook", "strategy", "order_manager", "dashboard"}

MAY_IMPORT: dict[str, set[str]] = {
    # Pure: values, codecs, the order core.
    "model": set(),
    "model/wire": {"model", "kernel"},
    "execution": {"model", "execution/costs"},
    "execution/costs": {"model"},
    # What is compiled, settings, shared memory.
    "kernel": {"kernel/plain"},
    "kernel/plain": set(),
    "config": MODEL,
    "shared_memory_utils": {"model", "kernel"},
    # What every process needs: life cycle, log, network, metrics.
    "runtime": SHARED | RUNTIME,
    "runtime/chaos": SHARED | RUNTIME,
    "runtime/container": SHARED | RUNTIME,
    "runtime/net": SHARED | RUNTIME,
    "runtime/metrics": SHARED | RUNTIME,
    "runtime/run": SHARED | RUNTIME,
    "runtime/trace": SHARED | RUNTIME,
    "runtime/verdict": SHARED | RUNTIME,
    "runtime/control": SHARED | RUNTIME,
    # What a feed consists of, and where it comes from.
    "market_data/storage": set(),
    "market_data": MODEL | {"config", "market_data/generated", "market_data/storage"},
    "market_data/generated": MODEL | {"market_data", "market_data/storage"},
    "market_data/sources": MODEL | {"config", "runtime"} | FEED,
    "market_data/live": MODEL | {"config", "runtime", "runtime/run"} | FEED,
    "market_data/live/exchange": MODEL | {"config", "runtime", "market_data/live"},
    "market_data/live/bus": MODEL | {"config", "kernel", "runtime"} | FEED,
    "market_data/live/parquet": MODEL | {"config", "runtime"} | FEED,
    "market_data/inspect": MODEL | {"config", "runtime", "runtime/net"} | FEED,
    "market_data/sources/columnar": MODEL | {"runtime"} | FEED,
    "market_data/sources/dbn": MODEL | {"runtime"} | FEED,
    "market_data/sources/text": MODEL | {"runtime"} | FEED,
    # The processes.  None imports another.
    "gateway": SHARED | RUNTIME | FEED,
    "orderbook": SHARED | RUNTIME,
    "strategy": SHARED | RUNTIME | {"strategy/kit", "execution/costs"},
    "strategy/kit": SHARED | RUNTIME | {"execution/costs"},
    "order_manager": SHARED | RUNTIME
    | {"execution", "order_manager/access", "order_manager/store"},
    "order_manager/access": SHARED | RUNTIME | {"execution", "order_manager"},
    "order_manager/store": MODEL | {"config", "execution", "runtime", "runtime/metrics"},
    "dashboard": SHARED | RUNTIME | {"dashboard/serving", "dashboard/sources"},
    "dashboard/serving": SHARED | RUNTIME,
    "dashboard/sources": SHARED | RUNTIME,
    # The bus between shards: beside the processes, and never between two of one stack.
    "bus": SHARED | RUNTIME | {"bus/link"},
    "bus/monitor": SHARED | RUNTIME | {"bus", "bus/link"},
    "bus/link": MODEL | {"config", "runtime"},
    "bus/feed": SHARED | RUNTIME | FEED | {"bus", "bus/link", "gateway"},
    "bus/outbox": SHARED | RUNTIME
    | {"bus", "bus/link", "execution", "order_manager/access", "order_manager/store"},
    **dict.fromkeys(PORTFOLIO, SHARED | RUNTIME | PORTFOLIO
                    | {"bus", "bus/link", "dashboard/serving"}),
    "portfolio/verify": SHARED | RUNTIME | {"bus/link", "order_manager/store", "portfolio"},
    # Above the processes.  The main process starts them by name.
    "backtest/performance": set(),
    "backtest": SHARED | RUNTIME | FEED
    | {"execution", "strategy", "strategy/kit", "order_manager/store", "backtest/performance",
       "backtest/results"},
    "backtest/results": SHARED | RUNTIME | FEED
    | {"backtest", "backtest/performance", "backtest/results/page", "strategy"},
    "backtest/results/page": {"backtest/performance", "backtest/results"},
    "backtest/proof": SHARED | RUNTIME | FEED | {"backtest", "execution", "strategy"},
    "backtest/sweep": SHARED | RUNTIME | FEED
    | {"backtest", "backtest/performance", "backtest/results", "backtest/results/page",
       "backtest/sweep/cluster", "strategy", "strategy/kit"},
    "backtest/sweep/cluster": MODEL
    | {"config", "market_data/sources", "market_data/storage", "backtest/sweep", "strategy",
       "strategy/kit"},
    "backtest/watch": SHARED | RUNTIME | FEED
    | {"backtest", "backtest/performance", "backtest/sweep", "strategy", "strategy/kit"},
    "main": SHARED | RUNTIME | PROCESSES,
    "__main__": SHARED | RUNTIME | FEED | PROCESSES
    | {"market_data/inspect", "main", "backtest", "execution", "order_manager/store"},
}  # fmt: skip
