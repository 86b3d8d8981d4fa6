"""Frames of the order port.  The compiled kernel has a faster way for the usual ones; here all go
the way of the others, which gives the same."""

from collections.abc import Callable, Sequence
from typing import Any


class OrderReader:
    """Reads the frames of orders, with ``otherwise``, the whole decoder."""

    def __init__(
        self,
        make: Callable[..., Any],
        symbols: dict[str, None],
        clients: dict[str, None],
        otherwise: Callable[[bytes], Any],
        *,
        default_client: str,
        id_max: int,
        qty_max: int,
        ts_bytes_max: int,
        proof_bytes: int,
    ) -> None:
        """The others say what a usual order is, which nobody needs to know here."""
        self._otherwise = otherwise

    def read(self, frame: bytes) -> Any:
        """The request in one frame."""
        if type(frame) is not bytes:
            raise TypeError(f"a frame is bytes, got {type(frame).__name__}")
        return self._otherwise(frame)

    def read_all(self, frames: list[bytes], requests: list[Any]) -> None:
        """Append the requests of ``frames``; an exception leaves those before it."""
        for frame in frames:
            requests.append(self.read(frame))


class AckWriter:
    """Writes the answer to an order, with ``otherwise``, the whole encoder."""

    def __init__(
        self,
        otherwise: Callable[..., bytes],
        statuses: Sequence[str],
        types: Sequence[str],
        tifs: Sequence[str],
    ) -> None:
        """The names are what the compiled kernel writes into usual answers."""
        self._otherwise = otherwise

    def write(self, order: Any, client: str, duplicate: bool = False) -> bytes:
        """The answer as a frame."""
        return self._otherwise(order, client, duplicate)
