"""Crashes, stops, and what is wrong around the stack."""

import signal

from tests.end_to_end.situations.model import (
    COMPLETE,
    HASH,
    IMPATIENT,
    SLOW,
    Situation,
    compose,
    crash,
    interrupt,
    kill,
)

ENDED_BY_SIGNAL = 255
"""Docker's code when the signal ends Compose's plugin: ``run`` resets its handlers once."""
EARLY = 600
"""The tick of what happens to a run at 300 ticks a second."""
SERVICES = ("gateway", "orderbook", "order_manager", "strategy", "shm")
CRASHES = [
    Situation(
        f"the process of {service} crashes",
        0,
        COMPLETE,
        SLOW | {"EXPECT_TRADES_HASH": HASH},
        f"SIGKILL inside `{service}`",
        crash(service),
        small=service == "orderbook",
    )
    for service in SERVICES
]
KILLS = [
    Situation(
        f"the container {service} is killed",
        1,
        f"{service} (was killed|is gone)",
        IMPATIENT,
        f"`docker kill` of `{service}`",
        kill(service),
        EARLY,
        small=service == "order_manager",
    )
    for service in SERVICES
]
HALT = compose("exec", "-T", "order_manager", "python3", "-m", "app", "orders", "halt")
FAULTS = [
    *CRASHES,
    *KILLS,
    Situation(
        "the containers are stopped",
        3,
        "Incomplete: stopped by SIGTERM",
        IMPATIENT,
        "`docker compose stop`",
        compose("stop"),
        EARLY,
    ),
    Situation(
        "the strategy is stopped and started",
        0,
        COMPLETE,
        SLOW | {"EXPECT_TRADES_HASH": HASH},
        "`docker compose restart strategy`",
        compose("restart", "strategy"),
    ),
    *(
        Situation(
            name,
            130,
            "Created|stopped by",
            {"PACE": "300/s"},
            f"{signal.Signals(number).name} to the command",
            interrupt(number),
            EARLY,
            or_codes=(3, ENDED_BY_SIGNAL),
            reports=False,
        )
        for name, number in (
            ("the command is stopped", signal.SIGTERM),
            ("Ctrl-C", signal.SIGINT),
        )
    ),
    Situation(
        "the run takes too long",
        3,
        "DEADLINE_S=6: not over within 6 s",
        {"PACE": "100/s", "DEADLINE_S": "6"},
    ),
    Situation(
        "trading is halted",
        1,
        r"no progress for 8 s at tick [\d,]+: trading is halted",
        IMPATIENT,
        "`python3 -m app orders halt`",
        HALT,
        EARLY,
    ),
    Situation(
        "the orderbook hangs",
        1,
        r"no progress for 8 s at tick [\d,]+: orderbook gives no sign of life",
        IMPATIENT,
        "`docker compose pause orderbook`",
        compose("pause", "orderbook"),
        EARLY,
    ),
    Situation(
        "a port is taken",
        1,
        "port is already allocated|address already in use",
        {"PUBLISHED_ORDER_PORT": "taken"},
        reports=False,
    ),
    Situation(
        "the shared memory is too small",
        1,
        "No space left on device",
        {"SHM_SIZE": "1m"},
    ),
]
