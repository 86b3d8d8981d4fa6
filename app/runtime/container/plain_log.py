"""Log lines like those of :mod:`app.runtime.log`, without site packages."""

import os
import sys


def print_line(service: str, level: str, event: str, **fields: object) -> None:
    """One line, or with LOG_FORMAT=json one JSON object, on standard error."""
    # Imported here: these processes live as long as the stack and need them for a line at most.
    import json
    from datetime import UTC, datetime

    ts = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if os.environ.get("LOG_FORMAT", "").strip() == "json":
        head = {"ts": ts, "level": level, "service": service, "event": event}
        text = json.dumps(head | fields)
    else:
        pairs = "".join(f" {key}={value}" for key, value in fields.items())
        text = f"{ts} {level.upper()} {service} {event}{pairs}"
    print(text, file=sys.stderr, flush=True)
