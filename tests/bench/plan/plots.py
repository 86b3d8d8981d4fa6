"""The pictures of ``plan.md``."""

from pathlib import Path
from typing import Any

PARTS = {"sequencer": "#1f6fd6", "broker": "#b42025", "portfolio": "#146c3a"}


def draw(found: dict[str, Any], folder: Path) -> None:
    """Draw three pictures as SVG."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams["svg.hashsalt"] = "plan"  # the same data, the same file
    plt.rcParams["font.size"] = 9
    folder.mkdir(exist_ok=True)

    def save(name: str) -> None:
        plt.tight_layout()
        plt.savefig(folder / f"{name}.svg", metadata={"Date": None})
        plt.close()

    shards = list(found["loads"])
    plt.figure(figsize=(6, 3.2))
    for part, color in PARTS.items():
        loads = [100 * found["loads"][n][part] for n in shards]
        plt.loglog(shards, loads, "o-", color=color, label=part, markersize=3)
    plt.axhline(100, color="black", linewidth=0.8)
    plt.axhline(70, color="black", linewidth=0.8, linestyle=":")
    plt.xlabel("shards, 1,000 ticks/s each")
    plt.ylabel("used of one, %")
    plt.legend()
    save("load")

    plt.figure(figsize=(6, 3.2))
    for part in ("broker", "portfolio"):
        served = [n for n in shards if found["p99_s"][n][part] is not None]
        values = [max(1e-4, found["p99_s"][n][part]) for n in served]
        plt.loglog(served, values, "o-", color=PARTS[part], label=part, markersize=3)
    plt.xlabel("shards")
    plt.ylabel("p99 of the queue, s")
    plt.legend()
    save("wait")

    plt.figure(figsize=(6, 3.2))
    for count, style in zip(found["failover"], ("-", "--", ":"), strict=True):
        case = found["failover"][count]
        label = f"{count:,} shards, {case['broker_groups']} broker groups"
        times = [0.1 * step for step in range(len(case["line"]))]
        plt.plot(times, case["line"], style, label=label)
    plt.xlabel("s")
    plt.ylabel("a message waits, s")
    plt.legend()
    save("failover")
