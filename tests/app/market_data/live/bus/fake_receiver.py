"""A receiver that delivers a recorded stream badly: twice, out of order, with gaps, and dies.

Its descriptor is the argument; ``BAD_STREAM`` names the recording, ``BAD_HOW`` what is bad.
"""

import os
import random
import socket
import sys

import msgspec

from app.market_data.live.bus.batch import SEQUENCER, encode
from app.market_data.live.bus.batch_log import BatchLog
from app.market_data.live.bus.session import BusRequest, Packet, encode_packet


def main() -> None:
    """Send from ``after`` on; how badly depends on ``after``, so that it is repeatable."""
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=BusRequest)
    how = os.environ["BAD_HOW"]
    numbers = random.Random(request.after)
    log = BatchLog.read(os.environ["BAD_STREAM"])  # type: ignore[arg-type]
    records = [each for each in log.records() if each.place > request.after]
    if how == "lost":
        records = [each for each in records if each.place != 5]
    order = list(records)
    if how == "shuffled" and request.after:
        order = [*order[:3], *numbers.sample(order[3:9], len(order[3:9])), *order[9:]]
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        for number, record in enumerate(order):
            headers = encode(record.message) | {SEQUENCER: "x"}
            if how == "nonsense" and number == 3:
                headers["Seq-First"] = "-1"
            packet = encode_packet(Packet(record.place, headers, record.message.body))
            for _ in range(numbers.choice([1, 1, 2]) if how != "lost" else 1):
                connection.sendall(packet)
            if how == "shuffled" and numbers.random() < 0.1:
                return  # it dies
        connection.recv(1)  # until the parent is gone


if __name__ == "__main__":
    main()
