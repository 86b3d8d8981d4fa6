"""The order manager process: settings to server, and errors to exit codes."""

import gc

from app.config.loading import EXIT_SETTINGS
from app.config.settings import Settings
from app.order_manager.server import OrderManagerServer
from app.order_manager.store.files import store_path
from app.order_manager.store.schema import OtherScaleError, StoreError
from app.order_manager.store.store import StoreUnavailableError
from app.runtime.lifecycle import EXIT_OK, FatalError, Stop
from app.runtime.log import get_logger
from app.runtime.metrics.process_metrics import ProcessMetrics
from app.runtime.net import access
from app.runtime.net.access_files import warn_of_access_files
from app.runtime.net.listener import raise_descriptor_limit
from app.runtime.process import run_process
from app.runtime.trace.writer import TraceSegment, answer_notes

log = get_logger()


def _serve(settings: Settings, metrics: ProcessMetrics, stop: Stop) -> int:
    raise_descriptor_limit(settings.order_connections_max)
    try:
        access.require_token_if_published(settings)
        server = OrderManagerServer(
            settings.bind_host, settings.order_port, settings=settings, metrics=metrics, stop=stop
        )
    except OtherScaleError as error:
        raise FatalError(str(error), final=True, exit_code=EXIT_SETTINGS) from error
    except (StoreError, StoreUnavailableError) as error:
        raise FatalError(str(error)) from error
    except OSError as error:
        raise FatalError(
            f"{settings.bind_host}:{settings.order_port}: {error.strerror}; "
            "stop what uses the port, or set another ORDER_PORT"
        ) from error
    warn_of_access_files(settings)
    server.note_answers = answer_notes(TraceSegment.open(settings, metrics))
    gc.collect()
    gc.freeze()
    # A batch allocates thousands of tuples, none of them in a cycle: collect rarely.
    gc.set_threshold(50_000)
    log.info(
        "ready",
        listen=f"{server.host}:{server.port}",
        store=store_path(settings),
        synchronous=settings.order_store_synchronous,
        mode=settings.trading_mode,
    )
    try:
        server.start()
    except StoreError as error:
        raise FatalError(str(error)) from error
    return EXIT_OK


def main() -> int:
    """Run the process; returns its exit code."""
    return run_process("order_manager", _serve)
