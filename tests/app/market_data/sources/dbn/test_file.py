"""DBN files made by Databento's own library; its decoder is the oracle."""

import datetime as dt
import importlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.market_data.sources.dbn import records
from app.market_data.sources.errors import DataError
from app.market_data.sources.loader import load_prices, load_sentiments
from app.market_data.tick_table import Columns, Rows
from app.model.timestamps import MAX_EVENT_NS, MIN_EVENT_NS
from tests.app.market_data.sources.columnar.test_files import plain
from tests.support.paths import SHARED_DATA

dbn: Any = pytest.importorskip("databento_dbn")
zstd: Any = pytest.importorskip("backports.zstd")

AT = 1_759_311_000_000_000_000
DAY = dt.date(2025, 10, 1)
NEXT_DAY_NS = 24 * 3600 * 10**9
UNDEF = records.UNDEF_PRICE
Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def write(*parts: bytes, packed: bool = False) -> Path:
        path = tmp_path / "ticks"
        data = b"".join(parts)
        path.write_bytes(zstd.compress(data) if packed else data)
        return path

    return write


def mapping(symbol: str, *intervals: tuple[dt.date, dt.date, str]) -> Any:
    """For example MSFT, which is instrument 2 from the first day until before the second."""
    spans = [SimpleNamespace(start_date=a, end_date=b, symbol=c) for a, b, c in intervals]
    return SimpleNamespace(raw_symbol=symbol, intervals=spans)


USUAL = [
    mapping("AAPL", (DAY, DAY + dt.timedelta(2), "1")),
    mapping("MSFT", (DAY, DAY + dt.timedelta(2), "2")),
]


def head(schema: str = "TRADES", version: int = 3, mappings: Any = USUAL, **changes: Any) -> bytes:
    options = {"stype_in": dbn.SType.RAW_SYMBOL, "stype_out": dbn.SType.INSTRUMENT_ID} | changes
    return bytes(
        dbn.Metadata(
            "XNAS.ITCH",
            AT,
            schema=getattr(dbn.Schema, schema) if schema else None,
            symbols=["AAPL", "MSFT"],
            partial=["A"],
            not_found=["B", "C"],
            mappings=mappings,
            version=version,
            **options,
        )
    )


def trade(price: int, at: int = AT, instrument: int = 1, event: int = AT - 5) -> bytes:
    side, action = dbn.Side.BID, dbn.Action.TRADE
    return bytes(dbn.TradeMsg(1, instrument, event, price, 7, action, side, 0, at))


def quote(bid: int, ask: int, price: int = 5 * 10**9, action: str = "ADD") -> bytes:
    level = dbn.BidAskPair(bid, ask, 1, 1, 1, 1)
    kind = getattr(dbn.Action, action)
    return bytes(dbn.MBP1Msg(1, 1, AT, price, 7, kind, dbn.Side.BID, 0, AT, levels=level))


def bar(values: tuple[int, ...], at: int = AT, rtype: int = 33) -> bytes:
    scaled = [value * 10**9 for value in values]
    return bytes(dbn.OHLCVMsg(rtype, 1, 2, at, *scaled, 100))


def found(rows: Rows) -> list[tuple[str, str]]:
    return [(symbol.decode(), value.decode()) for _, symbol, value in plain(rows)]


def test_records_are_laid_out_as_the_library_says() -> None:
    theirs = {
        records.TRADE: dbn.TradeMsg,
        records.QUOTE: dbn.MBP1Msg,
        records.BAR: dbn.OHLCVMsg,
    }
    for ours, message in theirs.items():
        form = [(name, kind.replace("S4", "V4")) for name, kind in message._dtypes]
        layout = np.dtype(form)
        for name in ours.names or ():
            if name != "rest":
                assert ours.fields[name] == layout.fields[name], name  # type: ignore[index]
    assert set(records.FORMS) >= {0, 1, 10, 32, 33, 34, 35, 36, 177, 192, 193, 194, 195, 196}
    assert (records.UNDEF_PRICE, records.UNDEF_TIMESTAMP) == (
        dbn.UNDEF_PRICE,
        dbn.UNDEF_TIMESTAMP,
    )


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("packed", [False, True])
def test_trades_of_all_versions(save: Save, version: int, packed: bool) -> None:
    parts = [trade(173_250_000_000), trade(1, AT + 1, 2), trade(9 * 10**18, AT + 10**9)]
    path = save(head(version=version), *parts, packed=packed)
    calls: list[tuple[int, int]] = []
    rows = load_prices(path, Columns(), lambda *at: calls.append(at))
    assert [rows.frame(row) for row in range(3)] == [
        b"2025-10-01 09:30:00*AAPL*173.25*",
        b"2025-10-01 09:30:00.000000001*MSFT*0.000000001*",
        b"2025-10-01 09:30:01*AAPL*9000000000*",
    ]
    assert rows.symbols == ["AAPL", "MSFT"]
    assert calls[-1] == (path.stat().st_size, path.stat().st_size)
    early = load_prices(path, Columns(timestamp="ts_event"))
    assert set(early.event_ns.tolist()) == {AT - 5}
    with pytest.raises(
        DataError, match="set TIMESTAMP_COLUMN=ts_recv or TIMESTAMP_COLUMN=ts_event"
    ):
        load_prices(path, Columns(timestamp="time"))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.integers(1, 9 * 10**18),
            st.integers(max(0, MIN_EVENT_NS), MAX_EVENT_NS),
            st.sampled_from([1, 2]),
        ),
        min_size=1,
    )
)
def test_any_trades_are_what_the_librarys_decoder_says(
    save: Save, trades: list[tuple[int, int, int]]
) -> None:
    span = (dt.date(1970, 1, 1), dt.date(2262, 4, 11))
    mappings = [mapping("AAPL", (*span, "1")), mapping("MSFT", (*span, "2"))]
    data = [head(mappings=mappings), *(trade(*row) for row in sorted(trades, key=lambda r: r[1]))]
    rows = load_prices(save(*data), Columns())
    decoder = dbn.DBNDecoder()
    decoder.write(b"".join(data))
    theirs = [message for message in decoder.decode() if isinstance(message, dbn.TradeMsg)]
    assert rows.event_ns.tolist() == [message.ts_recv for message in theirs]
    for row, message in enumerate(theirs):
        _, symbol, price, _ = rows.frame(row).split(b"*")
        whole, _, decimals = price.partition(b".")
        assert int(whole + decimals.ljust(9, b"0")) == message.price
        assert symbol == {1: b"AAPL", 2: b"MSFT"}[message.instrument_id]


def test_more_records_than_a_chunk_has(save: Save) -> None:
    count = 50_000
    parts = b"".join(trade(10**9 + row, AT + row, 1 + row % 2) for row in range(count))
    rows = load_prices(save(head(), parts, packed=True), Columns())
    assert rows.event_ns.tolist() == list(range(AT, AT + count))
    assert rows.frame(count - 1) == b"2025-10-01 09:30:00.000049999*MSFT*1.000049999*"


def test_quotes_give_the_middle_or_the_trades(save: Save) -> None:
    parts = [
        quote(10 * 10**9, 11 * 10**9),
        quote(10 * 10**9, UNDEF),
        quote(9 * 10**18, 9 * 10**18 - 2, 12 * 10**9, "TRADE"),
    ]
    path = save(head("MBP_1"), *parts)
    assert found(load_prices(path, Columns())) == [
        ("AAPL", "10.5"),
        ("AAPL", "8999999999.999999999"),
    ]
    for last in (Columns(quotes_as="last"), Columns(data_kind="ticks")):
        assert found(load_prices(path, last)) == [("AAPL", "12")]
    path = save(head("TBBO"), parts[2])
    assert found(load_prices(path, Columns())) == [("AAPL", "12")]


def test_quotes_at_intervals_have_the_last_price(save: Save) -> None:
    level = dbn.BidAskPair(10**9, 2 * 10**9, 1, 1, 1, 1)
    parts = [
        bytes(dbn.BBOMsg(195, 1, 1, AT, price, 7, dbn.Side.BID, AT, levels=level))
        for price in (5 * 10**9, UNDEF)
    ]
    path = save(head("BBO_1S"), *parts)
    assert [value for _, value in found(load_prices(path, Columns()))] == ["1.5", "1.5"]
    assert [value for _, value in found(load_prices(path, Columns(quotes_as="last")))] == ["5"]


@pytest.mark.parametrize("rtype", [32, 33, 34, 35])
def test_bars_give_their_close_or_four_ticks(save: Save, rtype: int) -> None:
    path = save(head("OHLCV_1M"), bar((10, 13, 9, 12), rtype=rtype), bar((5, 6, 3, 4), AT, rtype))
    assert [value for _, value in found(load_prices(path, Columns()))] == ["12", "4"]
    rows = load_prices(path, Columns(bars_as="ohlc"))
    assert [value for _, value in found(rows)] == ["10", "9", "13", "12", "5", "6", "3", "4"]


def test_a_symbol_that_moves_to_another_instrument(save: Save) -> None:
    """A continuous future: the next contract takes over at midnight."""
    days = [DAY + dt.timedelta(days) for days in range(3)]
    mappings = [
        mapping("ES.c.0", (days[0], days[1], "1"), (days[1], days[2], "2")),
        mapping("ESZ5", (days[0], days[1], "2")),
    ]
    parts = [trade(10**9), trade(2 * 10**9, AT + 1, 2), trade(3 * 10**9, AT + NEXT_DAY_NS, 2)]
    rows = load_prices(save(head(mappings=mappings), *parts), Columns())
    assert found(rows) == [("ES.c.0", "1"), ("ESZ5", "2"), ("ES.c.0", "3")]


def test_symbols_that_were_asked_for_by_instrument(save: Save) -> None:
    mappings = [mapping("1", (DAY, DAY + dt.timedelta(1), "AAPL"))]
    data = head(mappings=mappings, stype_in=dbn.SType.INSTRUMENT_ID, stype_out=dbn.SType.RAW_SYMBOL)
    assert found(load_prices(save(data, trade(10**9)), Columns())) == [("AAPL", "1")]


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_live_session_names_instruments_as_it_goes(save: Save, version: int) -> None:
    module = dbn.v1 if version == 1 else dbn
    options = [] if version == 1 else [dbn.SType.RAW_SYMBOL]
    out = [] if version == 1 else [dbn.SType.INSTRUMENT_ID]
    name = module.SymbolMappingMsg(1, 1, AT, *options, "X", *out, "NVDA", AT, AT)
    system = module.SystemMsg(AT, "heartbeat")
    data = [head("", version, []), bytes(system), bytes(name), trade(10**9), bytes(system)]
    assert found(load_prices(save(*data), Columns())) == [("NVDA", "1")]


def test_instruments_without_a_usable_symbol(save: Save) -> None:
    mappings = [mapping("BRN  FMH0025!", (DAY, DAY + dt.timedelta(1), "1"))]
    path = save(head(mappings=mappings), trade(10**9), trade(10**9, AT, 3))
    with pytest.raises(DataError) as error:
        load_prices(path, Columns())
    reason = "1: symbol='BRN  FMH0025!': symbol with a delimiter (* | ,), a space, or "
    assert f"{reason}anything but printable ASCII: set SYMBOL_COLUMN" in str(error.value)
    assert "2: symbol='3': has no symbol in this file: set DATA_SYMBOL" in str(error.value)
    rows = load_prices(path, Columns(data_symbol="OPT"))
    assert found(rows) == [("OPT", "1"), ("OPT", "1")]


def test_bad_records_are_named_or_skipped(save: Save) -> None:
    undefined = records.UNDEF_TIMESTAMP
    parts = [
        trade(10**9),
        trade(UNDEF),
        trade(-(10**9)),
        trade(9 * 10**18 + 1),
        trade(1, undefined),
    ]
    path = save(head(), *parts)
    with pytest.raises(DataError) as error:
        load_prices(path, Columns())
    first, *lines = str(error.value).splitlines()
    assert "4 rows malformed; SKIP_BAD_ROWS=true" in first
    assert [line.removeprefix(f"{path}:") for line in lines] == [
        "2: price='': missing",
        "3: price='-1.00': not positive",
        "4: price='9000000000.000000001': above 9000000000",
        "5: ts_recv='': missing",
    ]
    rows = load_prices(path, Columns(skip_bad_rows=True))
    assert (len(rows), rows.skipped) == (1, 4)


def test_a_schema_without_prices_and_a_sentiment_file(save: Save) -> None:
    order = dbn.MBOMsg(1, 1, AT, 5, 10**9, 1, dbn.Action.ADD, dbn.Side.BID, AT)
    path = save(head("MBO"), bytes(order))
    with pytest.raises(DataError, match="records of the schema mbo give no ticks; those of trades"):
        load_prices(path, Columns())
    with pytest.raises(DataError, match="a DBN file has no sentiments"):
        load_sentiments(path, Columns())


def test_live_data_may_have_the_time_of_sending(save: Save) -> None:
    """Each record is eight bytes longer."""
    side, action = dbn.Side.BID, dbn.Action.TRADE
    message = dbn.TradeMsg(1, 1, AT, 10**9, 7, action, side, 0, AT, ts_out=AT + 9)
    assert len(bytes(message)) == 56
    path = save(head(ts_out=True), bytes(message), bytes(message))
    assert found(load_prices(path, Columns())) == [("AAPL", "1")] * 2


def test_a_file_cut_anywhere_is_refused_in_one_line(save: Save) -> None:
    data = head() + trade(10**9) + trade(2 * 10**9)
    whole = len(data) - 48
    for size in range(4, len(data)):
        path = save(data[:size])
        if size == whole:
            assert len(load_prices(path, Columns())) == 1
            continue
        with pytest.raises(DataError, match=r"truncated|no rows") as error:
            load_prices(path, Columns())
        assert "\n" not in str(error.value)
    packed = zstd.compress(data + b"".join(trade(10**9 + row * row, AT) for row in range(9999)))
    with pytest.raises(DataError, match="damaged zstd file"):
        load_prices(save(packed[:-5]), Columns())


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(4, 1500), st.integers(0, 255)), min_size=1, max_size=5),
    st.booleans(),
)
def test_damage_is_an_error_or_does_not_matter(
    save: Save, flips: list[tuple[int, int]], packed: bool
) -> None:
    data = bytearray(head() + b"".join(trade(10**9 + row, AT + row) for row in range(9)))
    for at, value in flips:
        data[at % (len(data) - 4) + 4] = value
    path = save(bytes(data), packed=packed)
    try:
        rows = load_prices(path, Columns(skip_bad_rows=True, sort_rows=True))
    except DataError:
        return
    assert 0 < len(rows) <= 9


def test_forged_counts_cost_no_memory(save: Save) -> None:
    data = head()
    for at, reason in ((108, "schema definition"), (112, "4294967295 symbols in too few bytes")):
        forged = data[:at] + b"\xff" * 4 + data[at + 4 :]
        with pytest.raises(DataError, match=reason):
            load_prices(save(forged, trade(10**9)), Columns())
    forged = data[:4] + b"\xff\xff\xff\x7f" + data[8:]
    with pytest.raises(DataError, match="metadata of 2147483647 bytes"):
        load_prices(save(forged, trade(10**9)), Columns())
    with pytest.raises(DataError, match="version 4; known are 1 to 3"):
        load_prices(save(b"DBN\x04" + data[4:]), Columns())


def test_an_option_is_called_without_the_blanks_of_its_root(save: Save) -> None:
    day = (DAY, DAY + dt.timedelta(1))
    mappings = [
        mapping("AAPL  250221C00250000", (*day, "1")),
        mapping("AAPL250221C00250000", (*day, "2")),
        mapping("SPXW  250221P00250000", (*day, "3")),
    ]
    path = save(head(mappings=mappings), *(trade(10**9, AT, number) for number in (1, 2, 3)))
    names = ["AAPL250221C00250000", "AAPL250221C00250000", "SPXW250221P00250000"]
    assert [symbol for symbol, _ in found(load_prices(path, Columns()))] == names


SAMPLES = {
    "XNAS.ITCH__test_data.trades.dbn.zst": ["521", "521", "521", "521.01"],
    "XNAS.ITCH__test_data.mbp-1.dbn.zst": ["525.505", "529.375"],
}


@pytest.mark.parametrize("name", SAMPLES)
def test_databentos_own_samples(name: str) -> None:
    path = SHARED_DATA / "dbn" / name
    if not path.exists():
        pytest.skip(f"{path} is not here; TRADING_SHARED_DATA names its folder")
    assert found(load_prices(path, Columns())) == [("NVDA", price) for price in SAMPLES[name]]


def test_databentos_sample_of_options() -> None:
    path = SHARED_DATA / "dbn" / "OPRA.PILLAR__test_data.trades.dbn.zst"
    if not path.exists():
        pytest.skip(f"{path} is not here; TRADING_SHARED_DATA names its folder")
    prices = ["0.24", "0.2", "0.19", "0.19"]
    rows = load_prices(path, Columns())
    assert found(rows) == [("AAPL250221C00250000", price) for price in prices]


def test_zstd_that_is_no_dbn_is_left_to_others() -> None:
    module = importlib.import_module("app.market_data.sources.dbn.file")
    assert not module.matches(zstd.compress(b"timestamp,symbol,price\n"))
    assert not module.matches(b"DBN,timestamp\n")
    assert module.matches(zstd.compress(b"DBN\x03" + bytes(99))[:20])
