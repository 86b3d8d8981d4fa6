"""Which stream a gateway reads, and what is wrong with a DATA_PATH."""

import pytest

from app.config.bus import BusSource, bus_source
from app.config.settings import Settings, SettingsError

BUS = {"BUS_URL": "nats://127.0.0.1:4222"}


@pytest.mark.parametrize(
    ("path", "shard", "found"),
    [
        ("nats://md.a", "", BusSource("a", "")),
        ("nats://md.a/run-1", "b", BusSource("a", "run-1")),
        ("nats://", "b", BusSource("b", "")),
        ("data/nats://md.a/", "", BusSource("a", "")),
    ],
)
def test_a_stream_is_named(path: str, shard: str, found: BusSource) -> None:
    settings = Settings.from_environ({**BUS, "DATA_PATH": path, "SHARD": shard, "REPLAY": "once"})
    assert bus_source(settings) == found
    assert settings.is_live
    assert not settings.is_exchange


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"DATA_PATH": "nats://"}, "DATA_PATH=nats://: set SHARD, or write nats://md.SHARD"),
        ({"DATA_PATH": "nats://broker:4222"}, "DATA_PATH=nats://broker:4222: must be nats://md."),
        ({"DATA_PATH": "nats://md.A"}, "DATA_PATH=nats://md.A: must be nats://md.SHARD"),
        ({"DATA_PATH": "nats://md.a/x y"}, "must be nats://md.SHARD or nats://md.SHARD/RUN"),
        ({"DATA_PATH": "nats://md.a", "BUS_URL": ""}, "BUS_URL=: prices from the bus need its"),
        (
            {"DATA_PATH": "nats://md.a", "SENTIMENT_PATH": "x.csv"},
            "SENTIMENT_PATH: sentiment comes with the prices of the bus; leave it empty",
        ),
    ],
)
def test_what_names_none_is_refused(environ: dict[str, str], problem: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_environ(BUS | environ)
    assert problem in str(refused.value)
