"""The example notebook runs from top to bottom, and is stored without what it printed."""

import json
import re
from pathlib import Path

import pytest

from app.backtest import run
from tests.support.paths import ROOT

NOTEBOOKS = sorted((ROOT / "data/notebooks").glob("*.ipynb"))
EXAMPLE = ROOT / "data/notebooks/backtest.ipynb"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_it_is_stored_without_outputs(path: Path) -> None:
    notebook = json.loads(path.read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert code
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert notebook["metadata"]["language_info"] == {"name": "python"}


@pytest.mark.medium
@pytest.mark.timeout(180)
def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder of its own below a copy of the project, as Jupyter starts it."""
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    project = tmp_path / "project"
    (project / "data").mkdir(parents=True)
    (project / "app").symlink_to(ROOT / "app")
    for name in ("market_data.csv", "strategies"):
        (project / "data" / name).symlink_to(ROOT / "data" / name)
    folder = project / "data" / "notebooks"
    folder.mkdir()
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(EXAMPLE, as_version=4)
    nbformat.validate(notebook)
    client = nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute()

    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    texts = "".join(
        out.get("text", "") + str(out.get("data", {}).get("text/plain", "")) for out in outputs
    )
    pages = [out["data"]["text/html"] for out in outputs if "text/html" in out.get("data", {})]
    assert [
        out for out in outputs if out.output_type == "error" or out.get("name") == "stderr"
    ] == []
    result = run(
        ROOT / "data/market_data.csv",
        f"{ROOT}/data/strategies/breakout.py:Breakout",
        {"window": 20},
    )
    assert any(result.trades_hash in page and "<svg" in page for page in pages)
    assert any("image/png" in out.get("data", {}) for out in outputs), "the plot"
    assert re.search(r"Reversal window=50 band_bps=20\.0: [1-9]", texts)
    saved = project / "data/out/notebook"
    assert {"report.html", "trades.parquet"} <= {path.name for path in saved.iterdir()}
