"""An order as a request and as a frame."""

import json
from typing import Any

ORDER: dict[str, Any] = {"side": "BUY", "symbol": "AAPL", "qty": 10, "price": 173.20}


def frame(**changes: Any) -> bytes:
    """The order with ``changes``, as a frame of the order port."""
    return json.dumps({**ORDER, **changes}).replace("*", "\\u002a").encode() + b"*"
