"""The figures of the brokers, from their answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from app.bus.figures import Figure, figures_text
from app.bus.monitor.brokers import known_after
from tests.app.bus.monitor.answers import BROKERS, Brokers

Series = dict[tuple[str, ...], float]


def series(text: bytes) -> Series:
    """(name, label values...) -> value, as Prometheus reads it."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_healthy_brokers() -> None:
    found = series(Brokers().text())
    assert found["trading_bus_connected",] == found["trading_bus_leaders",] == 1
    assert found["trading_bus_brokers",] == found["trading_bus_brokers_expected",] == 3
    for name in BROKERS:
        assert found["trading_bus_broker_up", name] == 1
        assert found["trading_bus_broker_healthy", name] == 1
        assert found["trading_bus_broker_store_max_bytes", name] == 4e9
    assert found["trading_bus_stream_copies", "OUT_a"] == 3
    assert found["trading_bus_stream_bytes", "OUT_a"] == 5000
    assert found["trading_bus_stream_unread", "MD_a"] == 3
    assert found["trading_bus_controls_waiting", "a"] == 0
    assert found["trading_bus_broker_info", "broker-1", "2.15.1"] == 1
    assert found["trading_bus_broker_certificate_expires_seconds", "broker-1"] == 4070908800


def test_a_dead_leader_leaves_its_streams_without_one() -> None:
    brokers = Brokers()
    brokers.lose("broker-1")
    brokers.stream("OUT_a", "broker-3")["state"]["last_seq"] = 11
    brokers.stream("OUT_a", "broker-3")["state"]["messages"] = 11
    found = series(brokers.text())
    assert found["trading_bus_broker_up", "broker-1"] == 0
    assert found["trading_bus_brokers",] == 2
    assert found["trading_bus_leaders",] == 0
    assert found["trading_bus_stream_has_leader", "OUT_a"] == 0
    assert found["trading_bus_stream_copies", "OUT_a"] == 0
    # What is there is what the broker that has most says.
    assert found["trading_bus_stream_messages", "OUT_a"] == 11


def test_a_broker_without_majority_names_no_leader() -> None:
    brokers = Brokers()
    for name in BROKERS[1:]:
        brokers.lose(name)
    del brokers.jsz["broker-1"]["meta_cluster"]["leader"]
    for stream in ("OUT_a", "CONTROL"):
        del brokers.stream(stream)["cluster"]["leader"]
    del brokers.stream("CONTROL")["consumer_detail"][0]["cluster"]["leader"]
    found = series(brokers.text())
    assert found["trading_bus_leaders",] == found["trading_bus_stream_has_leader", "OUT_a"] == 0
    assert ("trading_bus_controls_waiting", "a") not in found
    # A server alone has no cluster at all.
    del brokers.stream("OUT_a")["cluster"]
    assert series(brokers.text())["trading_bus_stream_has_leader", "OUT_a"] == 1


def test_a_broker_that_is_down_has_no_complete_copy_whatever_its_leader_thinks() -> None:
    brokers = Brokers()
    brokers.lose("broker-2")
    assert series(brokers.text())["trading_bus_stream_copies", "OUT_a"] == 2
    brokers.stream("OUT_a")["cluster"]["replicas"][1]["current"] = False
    assert series(brokers.text())["trading_bus_stream_copies", "OUT_a"] == 1


def test_only_the_consumers_leader_knows_what_it_lacks() -> None:
    brokers = Brokers()
    for name in BROKERS[1:]:
        brokers.stream("CONTROL", name)["consumer_detail"][0]["num_pending"] = 7
    assert series(brokers.text())["trading_bus_controls_waiting", "a"] == 0
    brokers.stream("CONTROL")["consumer_detail"][0] |= {"num_pending": 1, "num_ack_pending": 2}
    assert series(brokers.text())["trading_bus_controls_waiting", "a"] == 3


def test_nobody_answers() -> None:
    brokers = Brokers()
    brokers.connected = False
    for name in BROKERS:
        brokers.lose(name)
    found = series(brokers.text())
    assert found["trading_bus_connected",] == found["trading_bus_brokers",] == 0
    assert [found["trading_bus_broker_up", name] for name in BROKERS] == [0, 0, 0]
    assert ("trading_bus_leaders",) not in found  # nobody knows


def test_a_broker_that_was_removed_is_forgotten_when_a_leader_says_so() -> None:
    jsz = Brokers().jsz
    known = frozenset((*BROKERS, "broker-9"))
    assert known_after(known, jsz) == frozenset(BROKERS)
    del jsz["broker-1"]
    assert known_after(known, jsz) == known


def test_without_tls_or_jetstream_the_other_figures_are_there() -> None:
    brokers = Brokers()
    for each in brokers.varz.values():
        del each["tls_cert_not_after"], each["jetstream"]
    for answer in brokers.jsz.values():
        del answer["account_details"], answer["meta_cluster"]
    found = series(brokers.text())
    assert found["trading_bus_broker_connections", "broker-2"] == 2
    assert not any("certificate" in name or "store" in name for name, *_ in found)


@given(
    st.dictionaries(st.text(max_size=8), st.floats(allow_nan=False), max_size=4),
    st.text(max_size=8),
)
@pytest.mark.parametrize("name", ["trading_x", "trading_x_total"])
def test_prometheus_reads_back_any_label_and_value(
    name: str, values: dict[str, float], other: str
) -> None:
    wanted = {(("label", key), ("other", other)): value for key, value in values.items()}
    text = figures_text([Figure(name, "a text", wanted)]).decode()
    # Its own parser splits lines at more than newlines, which is what Prometheus does.
    if not set("".join(values) + other) & set("\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"):
        read = [s for f in text_string_to_metric_families(text) for s in f.samples]
        assert {tuple(s.labels.items()): s.value for s in read} == wanted
    kind = "counter" if name.endswith("_total") else "gauge"
    assert text.splitlines()[1] == f"# TYPE {name} {kind}"
