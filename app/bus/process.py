"""What the processes of the bus share: settings, log, signals, exit code.

They are outside the stack's shared memory, and so have no block in its metrics.
"""

import logging
from collections.abc import Callable

from app.config.loading import EXIT_SETTINGS, load_settings, print_settings_error
from app.config.settings import Settings, SettingsError
from app.runtime.lifecycle import EXIT_FAULT, FatalError, Stop, tell_supervisor
from app.runtime.log import get_logger, setup_logging
from app.runtime.process import log_stopped


def quiet_asyncio() -> None:
    """Nothing of asyncio's warnings: one at each end of a TLS connection, in a form of its own."""
    logging.getLogger("asyncio").setLevel(logging.ERROR)


def run_bus_process(service: str, body: Callable[[Settings, Stop], int]) -> int:
    """Set up ``service``, run ``body``, and return the exit code."""
    try:
        settings = load_settings()
        setup_logging(service, settings.log_level, settings.log_format)
        quiet_asyncio()
        log = get_logger()
        stop = Stop()
        stop.install()
        code, reason = EXIT_FAULT, ""
        try:
            code = body(settings, stop)
        except FatalError as error:
            code, reason = error.exit_code, str(error)
            log.error("fatal", error=reason, **error.details)
            if error.final:
                tell_supervisor(reason)
        except SettingsError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            log.exception("bug")
    except SettingsError as error:
        print_settings_error(service, error)
        return EXIT_SETTINGS
    log_stopped(code, reason)
    return code
