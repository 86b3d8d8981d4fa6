"""Writes ``oracle.json``: what empyrical makes of three series of returns.

    pip install empyrical-reloaded && python -m tests.app.backtest.performance.make_oracle

A file, because empyrical needs a package that has to be compiled.
"""

import json
from pathlib import Path

import numpy as np

ORACLE = Path(__file__).with_name("oracle.json")
NAMES = (
    "annual_return",
    "annual_volatility",
    "sharpe_ratio",
    "sortino_ratio",
    "calmar_ratio",
    "max_drawdown",
)


def series() -> dict[str, list[float]]:
    """Noise with a small gain, steady growth with one crash, and mostly losses."""
    rng = np.random.default_rng(7)
    noise = rng.normal(0.0005, 0.01, 750)
    crash = np.concatenate((np.full(120, 0.001), [-0.35], rng.normal(0.002, 0.004, 130)))
    losses = -np.abs(rng.standard_t(3, 60)) / 200
    losses[::7] *= -1
    return {"noise": noise.tolist(), "crash": crash.tolist(), "losses": losses.tolist()}


def main() -> None:
    """Ask empyrical, for markets of weekdays and of all days."""
    import empyrical  # type: ignore[import-not-found]
    import pandas

    oracle = []
    for name, returns in series().items():
        for days in (252, 365):
            values = {"total_return": float(empyrical.cum_returns_final(pandas.Series(returns)))}
            for measure in NAMES:
                options = {} if measure == "max_drawdown" else {"annualization": days}
                found = getattr(empyrical, measure)(pandas.Series(returns), **options)
                values[measure] = float(found)
            oracle.append({"series": name, "days": days, "values": values})
    ORACLE.write_text(json.dumps(oracle, indent=1) + "\n")


if __name__ == "__main__":
    main()
