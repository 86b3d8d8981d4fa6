"""The portfolio process: follows all shards, watches the limits, serves its page.

It is no part of a shard: it has no shared memory, and no order waits for it.
"""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, Final

from app.bus.link.access import bus_access
from app.bus.shard_map import MapError, load
from app.config.loading import EXIT_SETTINGS, load_settings, print_settings_error
from app.config.settings import Settings, SettingsError
from app.dashboard.serving.access import Access, require_token
from app.dashboard.serving.server import make_server, open_port
from app.portfolio.books_file import StateError
from app.portfolio.intake.following import Following
from app.portfolio.limits import limits_of
from app.portfolio.page.counts import Counts
from app.portfolio.page.web import Web
from app.portfolio.service import NotStored, Portfolio
from app.portfolio.state import State, state_path
from app.runtime.lifecycle import EXIT_FAULT, EXIT_OK, POLL_S, FatalError, Stop
from app.runtime.log import get_logger, setup_logging
from app.runtime.process import log_stopped, one_line

log = get_logger()

SERVICE: Final = "portfolio"
LOOK_S: Final = 1.0
"""Between two looks at the clock, prices and limits when no fill comes."""


class Page:
    """The page's server, on its open port."""

    def __init__(self, settings: Settings, portfolio: Portfolio, following: Following) -> None:
        require_token(settings, SERVICE)
        self.access, counts = Access(settings, SERVICE), Counts()
        web = Web(portfolio, following, self.access, counts)
        self.server = make_server(web.app, settings, counts)
        host = settings.portfolio_host or settings.bind_host
        self._listener = open_port("PORTFOLIO_PORT", host, settings.portfolio_port)
        scheme = "https" if settings.order_tls_cert_file else "http"
        shown, port = self._listener.getsockname()[:2]
        log.info("page_ready", url=f"{scheme}://{shown}:{port}/", token=self.access.needs_token)

    async def serve(self) -> None:
        """Serve until the server is told to end."""
        with self._listener:
            await self.server.serve(sockets=[self._listener])


def _mapped(settings: Settings) -> list[str]:
    """The shards of the map: they get controls also before they have a stream.

    Raises:
        SettingsError: SHARD_MAP is no map.
    """
    try:
        return list(load(settings.shard_map).shards) if settings.shard_map else []
    except MapError as error:
        raise SettingsError(str(error)) from None


async def _look(portfolio: Portfolio, following: Following) -> None:
    said = ""
    while True:
        try:
            portfolio.look()
            following.wake()
            said = ""
        except NotStored as error:
            if said != str(error):
                log.error("not_stored", path=portfolio.state.path, reason=str(error))
            said = str(error)
        await asyncio.sleep(LOOK_S)


async def _run(settings: Settings, portfolio: Portfolio, stop: Stop) -> None:
    following = Following(portfolio, bus_access(settings), settings, _mapped(settings))
    page = Page(settings, portfolio, following) if settings.portfolio_port else None

    async def watch() -> None:
        while not stop:
            if page:
                page.access.look()
            await asyncio.sleep(POLL_S)

    jobs: list[Coroutine[Any, Any, None]] = [
        watch(), following.run(), _look(portfolio, following),
    ]  # fmt: skip
    if page:
        jobs += [page.serve(), page.server.sweep_forever()]
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for each in done:
            each.result()
    finally:
        if page:
            page.server.should_exit = True
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def main() -> int:
    """Run the portfolio; exit code 0 after a stop, 1 on a fault, 2 on invalid settings."""
    try:
        settings = load_settings()
    except SettingsError as error:
        print_settings_error(SERVICE, error)
        return EXIT_SETTINGS
    setup_logging(SERVICE, settings.log_level, settings.log_format)
    stop = Stop()
    stop.install()
    code, reason = EXIT_FAULT, ""
    try:
        with contextlib.closing(State(state_path(settings))) as state:
            portfolio = Portfolio(state, limits_of(settings))
            log.info(
                "books_opened",
                path=state.path,
                shards=len(portfolio.shards),
                fills=sum(shard.fills for shard in portfolio.shards.values()),
            )
            asyncio.run(_run(settings, portfolio, stop))
        code, reason = EXIT_OK, stop.reason
    except SettingsError as error:
        print_settings_error(SERVICE, error)
        return EXIT_SETTINGS
    except (FatalError, StateError) as error:
        reason = one_line(error)
        log.error("fatal", error=reason)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        log.exception("bug")
    log_stopped(code, reason)
    return code
