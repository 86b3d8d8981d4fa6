"""Decoders of the order port, by how quantities are counted."""

from collections.abc import Callable
from functools import partial

from app.model.money import Scale
from app.model.requests import Request
from app.model.wire.order_json import decode, decode_all, decode_any

DecodeAll = Callable[[list[bytes], list[Request]], None]


def decoder_of(scale: Scale) -> Callable[[bytes], Request]:
    """Returns the request in one frame."""
    return partial(decode_any, scale=scale) if scale.decimals else decode


def decoder_of_all(scale: Scale) -> DecodeAll:
    """Appends the requests of a list of frames to a list; an exception leaves those before it."""
    if not scale.decimals:
        return decode_all

    def each(frames: list[bytes], requests: list[Request]) -> None:
        for frame in frames:
            requests.append(decode_any(frame, scale))

    return each
