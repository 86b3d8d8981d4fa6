"""``python -m app.bus monitor``: asks all brokers how they are, and serves it as ``/metrics``.

It asks over the bus itself, as a user of NATS's system account that may ask these three things and
nothing else: so no broker opens its monitoring port, and who asks is known.
"""

import asyncio
import json
import sys
import time
from typing import Any, Final

import nats.errors

from app.bus.figures import figures_text, serving
from app.bus.link.access import Access, bus_access
from app.bus.link.connection import BusUnavailable, Link
from app.bus.monitor.brokers import Seen, figures, known_after
from app.bus.process import run_bus_process
from app.config.settings import Settings, SettingsError
from app.runtime.lifecycle import EXIT_FAULT, EXIT_OK, Backoff, FatalError, Stop
from app.runtime.log import get_logger

log = get_logger()

NAME: Final = "monitor"
QUESTIONS: Final = {
    "VARZ": {},
    "JSZ": {"accounts": True, "streams": True, "consumer": True, "config": True},
    "HEALTHZ": {},
}
SUBJECT: Final = "$SYS.REQ.SERVER.PING"
LOOK_EVERY_S: Final = 2.0
ANSWERS_S: Final = 1.5
"""A broker that has not answered by then counts as down in this look."""

Answers = dict[str, dict[str, Any]]


class Monitor:
    """Looks at the brokers again and again; :attr:`seen` is the last look."""

    def __init__(self, access: Access, stop: Stop) -> None:
        self._access, self._stop = access, stop
        self.seen = Seen(False, len(access.servers), {}, {}, {}, frozenset(), 0.0)

    async def run(self, settings: Settings) -> int:
        """Until a stop is requested."""
        backoff = Backoff(settings.reconnect_delay_ms, settings.reconnect_delay_ms_max)
        said = ""
        async with serving(settings, lambda: figures(self.seen)):
            while not self._stop:
                try:
                    async with await Link.open(self._access, NAME) as link:
                        server = link.client.connected_url
                        log.info("bus_connected", server=server.netloc if server else "")
                        said = ""
                        while not self._stop:
                            await self.look(link)
                            backoff.reset()
                            await asyncio.sleep(LOOK_EVERY_S)
                except BusUnavailable as error:
                    if str(error) != said:
                        log.warning("bus_unavailable", reason=str(error))
                    said = str(error)
                    self._lost()
                await asyncio.sleep(backoff.delay_s())
        return EXIT_OK

    async def once(self) -> int:
        """One look, printed; returns the exit code."""
        try:
            async with await Link.open(self._access, NAME) as link:
                await self.look(link)
        except BusUnavailable as error:
            log.error("bus_unavailable", reason=str(error))
            return EXIT_FAULT
        sys.stdout.write(figures_text(figures(self.seen)).decode())
        return EXIT_OK

    def _lost(self) -> None:
        """Nobody answers."""
        empty: Answers = {}
        self.seen = self.seen._replace(
            connected=False, varz=empty, jsz=empty, healthz=empty, at_s=time.time()
        )

    async def look(self, link: Link) -> None:
        """Ask all brokers everything.

        Raises:
            BusUnavailable: the connection is lost, or nobody answers.
        """
        wanted = max(len(self._access.servers), len(self.seen.known))
        varz, jsz, healthz = await asyncio.gather(
            *(_ask(link, what, body, wanted) for what, body in QUESTIONS.items())
        )
        if link.lost.is_set():
            raise BusUnavailable(f"the connection is lost: {link.why}")
        if not varz:
            refused = [what for what in QUESTIONS if link.denied(f"{SUBJECT}.{what}")]
            if refused:
                raise FatalError(
                    f"BUS_CREDS: the broker does not let this user ask {SUBJECT}.{refused[0]}: "
                    "take the user monitor of images/cluster/accounts.py",
                    final=True,
                )
            raise BusUnavailable(
                f"no broker answers {SUBJECT}: the user must be one of the system account"
            )
        known = known_after(self.seen.known, jsz)
        self.seen = Seen(True, len(self._access.servers), varz, jsz, healthz, known, time.time())


async def _ask(link: Link, what: str, body: dict[str, bool], wanted: int) -> Answers:
    """The answers to one question, as many as come in time: name of the broker -> its data."""
    found: Answers = {}
    client, inbox = link.client, link.client.new_inbox()
    try:
        answers = await client.subscribe(inbox)
        await client.publish(f"{SUBJECT}.{what}", json.dumps(body).encode(), reply=inbox)
        until_s = time.monotonic() + ANSWERS_S
        while len(found) < wanted and (left_s := until_s - time.monotonic()) > 0:
            try:
                message = await answers.next_msg(timeout=left_s)
                answer = json.loads(message.data)
                found[str(answer["server"]["name"])] = dict(answer["data"])
            except nats.errors.TimeoutError:
                break
            except (ValueError, KeyError, TypeError):
                continue  # no answer that we know
        await answers.unsubscribe()
    except (nats.errors.Error, OSError) as error:
        raise BusUnavailable(f"the connection is lost: {error}") from None
    return found


def monitor(*arguments: str) -> int:
    """Run the process; ``--once``: print the figures of one look, exit code 1 if there is none."""

    def body(settings: Settings, stop: Stop) -> int:
        if arguments not in ((), ("--once",)):
            raise SettingsError("monitor: knows no option but --once")
        if not arguments and not settings.bus_metrics_port:
            raise SettingsError("BUS_METRICS_PORT: required here, the port of /metrics; or --once")
        watching = Monitor(bus_access(settings), stop)
        if arguments:
            return asyncio.run(watching.once())
        return asyncio.run(watching.run(settings))

    return run_bus_process(NAME, body)
