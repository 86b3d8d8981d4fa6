"""How a strategy is shown its ticks: which of the steppers its class needs, if any."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from app.strategy.kit.order_stepping import OrderStepper, mixture
from app.strategy.kit.stepping import Stepper, overrides

HISTORY_MAX: Final = 1_000_000


def stepper_of(
    strategy: Any,
    base: type,
    context: Any,
    position: npt.NDArray[np.int8],
    *,
    every: bool,
    told: bool,
    places: bool,
) -> Stepper | None:
    """Only for a strategy that wants more than ticks; ``base``: the class of all strategies.

    Raises:
        ValueError: what its class says contradicts itself.
    """
    kind = type(strategy)
    timer = strategy.on_timer if overrides(kind, base, "on_timer") else None
    period_s, history_ticks = strategy.timer_s, strategy.history_ticks
    wrong = ""
    if timer is not None and not 1e-6 <= period_s <= 1e9:
        wrong = f"timer_s = {period_s!r}: on_timer needs its period, in seconds of event time"
    elif not (type(history_ticks) is int and 0 <= history_ticks <= HISTORY_MAX):
        wrong = f"history_ticks = {history_ticks!r}: must be a whole number, 0 to {HISTORY_MAX}"
    elif places:
        wrong = mixture(kind, base)
    if wrong:
        raise ValueError(wrong)
    if places:
        return OrderStepper(strategy, context, position, timer)
    if not (told or timer is not None or history_ticks):
        return None
    return Stepper(
        strategy,
        context,
        position,
        every=every,
        answers=told,
        batch=overrides(kind, base, "on_batch"),
        timer=timer,
    )
