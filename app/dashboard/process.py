"""The dashboard process: reads, serves the page, passes on commands."""

import asyncio
import contextlib
import time

from app.config.settings import Settings
from app.dashboard.commands import Commands
from app.dashboard.sampler import Sampler
from app.dashboard.serving.access import Access, require_token
from app.dashboard.serving.server import Server, make_server, open_port
from app.dashboard.web import Web
from app.runtime.lifecycle import EXIT_OK, POLL_S, Stop
from app.runtime.log import get_logger
from app.runtime.metrics.process_metrics import ProcessMetrics
from app.runtime.process import run_process

log = get_logger()


def _body(settings: Settings, metrics: ProcessMetrics, stop: Stop) -> int:
    if not settings.dashboard_port:
        return _wait(metrics, stop)
    require_token(settings)
    access = Access(settings)
    metrics.on_new_run = None  # The page stays open when the market jumps back.
    for gauge in ("pages", "connections"):
        metrics.set(gauge, 0)
    commands = Commands(settings, metrics)
    sampler = Sampler(settings, metrics, commands)
    server = make_server(Web(sampler, commands, access, metrics).app, settings, metrics)
    own_host = settings.dashboard_host or settings.bind_host
    with open_port("DASHBOARD_PORT", own_host, settings.dashboard_port) as listener:
        scheme = "https" if settings.order_tls_cert_file else "http"
        host, port = listener.getsockname()[:2]
        log.info("page_ready", url=f"{scheme}://{host}:{port}/", token=access.needs_token)
        metrics.set_state("ready")
        asyncio.run(_serve(server, sampler, access, stop, listener))
    return EXIT_OK


def _wait(metrics: ProcessMetrics, stop: Stop) -> int:
    """DASHBOARD_PORT=0: a container that ended would look like a failure."""
    log.info("page_off", reason="DASHBOARD_PORT=0")
    metrics.set_state("ready")
    while not stop:
        metrics.heartbeat()
        time.sleep(POLL_S)
    return EXIT_OK


async def _serve(server: Server, sampler: Sampler, access: Access, stop: Stop, listener) -> None:  # type: ignore[no-untyped-def]
    async def watch() -> None:
        while not stop:
            access.look()
            await asyncio.sleep(POLL_S)
        sampler.hub.end()
        server.should_exit = True

    sampler.desk.start()
    tasks = [asyncio.create_task(each) for each in (watch(), sampler.run(), server.sweep_forever())]
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        done, _ = await asyncio.wait([serving, *tasks], return_when=asyncio.FIRST_COMPLETED)
        if tasks[0] in done:
            await serving
        for each in done:
            each.result()
    finally:
        for task in (serving, *tasks):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await sampler.close()


def main() -> int:
    """Run the dashboard; exit code 0 after a stop, 1 on a fault, 2 on invalid settings."""
    return run_process("dashboard", _body)
