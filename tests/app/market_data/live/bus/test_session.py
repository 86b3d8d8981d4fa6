"""A session whose receiver delivers badly, and whose disk is full."""

import errno
import random
import time
from pathlib import Path

import pytest

from app.config.settings import Settings
from app.market_data.live.bus.batch import Message
from app.market_data.live.bus.batch_log import BatchLog
from app.market_data.live.bus.feed import BusFeed
from app.market_data.live.bus.opening import begin_bus_recording
from app.market_data.live.bus.session import BusSession
from app.market_data.live.exchange import supervised
from app.market_data.live.tick_log import RecordingFull
from app.market_data.sources.errors import DataError
from app.runtime.lifecycle import FatalError
from tests.app.market_data.live.bus.test_recording import messages_of, record_all
from tests.support.bus.session import work

PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> list[Message]:
    numbers = random.Random(3)
    return messages_of(tmp_path_factory.mktemp("run"), iter(lambda: numbers.randint(5, 30), None))


@pytest.fixture
def badly(tmp_path: Path, messages: list[Message], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stream as a recording, which the bad receiver reads."""
    path = tmp_path / "stream.batches"
    record_all(path, messages)
    monkeypatch.setenv("BAD_STREAM", str(path))
    monkeypatch.setattr(BusSession, "module", "tests.app.market_data.live.bus.fake_receiver")
    monkeypatch.setattr(supervised, "RESPAWN_S", 0.0)
    return path


def opened(folder: Path, **values: object) -> tuple[BusFeed, BusSession]:
    """A gateway's feed and session."""
    settings = Settings.from_environ(
        {
            "DATA_PATH": "nats://md.a",
            "BUS_URL": "nats://127.0.0.1:1",
            "OUTPUT_DIR": str(folder),
            "RUN_ID": "run",
            **{name.upper(): str(value) for name, value in values.items()},
        }
    )
    feed, session = begin_bus_recording(settings, lambda: False, lambda: None)
    assert session is not None
    return feed, session


def work_until_end(session: BusSession) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while not session.ended:
        work(session, until_s)


def test_duplicates_disorder_and_deaths_leave_every_message_once(
    tmp_path: Path, badly: Path, messages: list[Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAD_HOW", "shuffled")
    feed, session = opened(tmp_path)
    try:
        work_until_end(session)
    finally:
        session.close()
    assert feed.total == messages[-1].seq_first
    assert session.counts["live_repeated"] > 0
    assert session.counts["live_gaps"] > 0
    assert (tmp_path / "live/run.batches").read_bytes() == badly.read_bytes()


def test_a_message_that_the_stream_has_lost_ends_the_run(
    tmp_path: Path, badly: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAD_HOW", "lost")
    _, session = opened(tmp_path)
    try:
        with pytest.raises(FatalError, match=r"message 5 of run \S+ is not in .*, but 6 is"):
            work_until_end(session)
    finally:
        session.close()
    log = BatchLog.read(tmp_path / "live/run.batches")
    assert [record.place for record in log.records()] == [1, 2, 3, 4]


def test_nonsense_is_refused_with_its_place(
    tmp_path: Path, badly: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAD_HOW", "nonsense")
    _, session = opened(tmp_path)
    try:
        with pytest.raises(FatalError, match=r"md\.a: message 4: Seq-First '-1': a number from 0"):
            work_until_end(session)
    finally:
        session.close()


def test_without_room_nothing_is_seen_that_is_not_recorded(
    tmp_path: Path, badly: Path, messages: list[Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAD_HOW", "well")
    feed, session = opened(tmp_path)
    write, full = BatchLog.write, [True]

    def writing(log: BatchLog, records: list) -> None:
        if full[0] and records[0].message.seq_first > 50:
            raise RecordingFull(errno.ENOSPC, "no space left")
        write(log, records)

    monkeypatch.setattr(BatchLog, "write", writing)
    try:
        until_s = time.monotonic() + PATIENCE_S
        while session.writable:
            work(session, until_s)
        for _ in range(20):
            work(session, until_s)
        seen = feed.available
        assert seen == BusFeed(BatchLog.read(tmp_path / "live/run.batches")).available < 90
        assert not session.flows
        full[0] = False
        work_until_end(session)
    finally:
        session.close()
    assert feed.total == messages[-1].seq_first > seen
    assert (tmp_path / "live/run.batches").read_bytes() == badly.read_bytes()


def test_a_recording_of_another_stream_is_not_continued(
    tmp_path: Path, badly: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAD_HOW", "well")
    feed, session = opened(tmp_path)
    session.close()
    feed.batches.close()
    for path in ("nats://md.b", "nats://md.a/other"):
        with pytest.raises(DataError, match=r"recorded from run run of md\.a, and DATA_PATH wants"):
            opened(tmp_path, data_path=path)
