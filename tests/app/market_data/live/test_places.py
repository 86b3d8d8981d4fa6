"""Where the recording of a run is."""

from pathlib import Path

import pytest

from app.config.settings import Settings
from app.market_data.live import places


@pytest.mark.parametrize("own", ["btc.1-2025", "btc.2-2025", "btc"])
def test_each_run_id_has_its_own_recording_also_after_a_jump(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str
) -> None:
    settings = Settings(live_record=str(tmp_path), run_id=own)
    assert places.recording_of(settings) == tmp_path / f"{own}.ticks"
    monkeypatch.setattr(places, "resolve_run_id", lambda _settings: f"{own}.2-1a2b")
    assert places.recording_of(settings) == tmp_path / f"{own}.ticks"


def test_a_jump_of_a_run_with_a_generated_id_keeps_its_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(live_record=str(tmp_path), run_dir=str(tmp_path))
    first = places.recording_of(settings)
    monkeypatch.setattr(places, "resolve_run_id", lambda _settings: f"{first.stem}.2-1a2b")
    assert places.recording_of(settings) == first
