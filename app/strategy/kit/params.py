"""Parameters of a strategy: declared on its class, given by ``STRATEGY_PARAMS``.

::

    class Crossover(Strategy):
        short = Param(5, low=1, high=500)
        long = Param(20, low=2)

        def on_tick(self, tick): ...  # self.short is a plain int here
"""

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Generic, NamedTuple, Self, TypeVar, overload

from app.config.settings import Settings
from app.runtime.run.strategy_params import Given, ParamError, params_text, read_params, value_text

V = TypeVar("V", bound=str | bool | int | float)

KINDS: Final = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
WHOLE: Final = re.compile(r"[+-]?[0-9]{1,300}", re.ASCII)
BOOLS: Final = {"true": True, "1": True, "false": False, "0": False}
RESERVED: Final = {"context", "failed_tick"}
"""What every instance of a strategy has, besides the names of its class."""


class Param(Generic[V]):
    """One parameter; its default says its type: bool, int, float or str.

    ``low`` and ``high`` are the bounds of a number, both allowed; ``choices`` are the only values
    allowed.  ``setting`` names a setting of the stack that has the default.  An instance of the
    strategy has the value itself, before its ``__init__`` runs.

    Raises:
        TypeError: another type, bounds of what is no number.
        ValueError: a default outside the bounds or choices, or that is no finite number.
    """

    def __init__(
        self,
        default: V,
        *,
        low: V | None = None,
        high: V | None = None,
        choices: Iterable[V] | None = None,
        setting: str = "",
        help: str = "",
    ) -> None:
        kind = type(default)
        if kind not in KINDS:
            raise TypeError(f"default {default!r}: must be a bool, int, float or str")
        self.kind: type[Any] = kind
        self.help, self.setting = help, setting
        if (low is not None or high is not None) and kind not in (int, float):
            raise TypeError(f"default {default!r}: low and high are for numbers")
        self.low, self.high = self._own("low", low), self._own("high", high)
        self.choices = None
        if choices is not None:
            self.choices = tuple(self._own("choices", each) for each in choices)
        self.default: Any = self._own("default", default)
        if not self.allows(self.default):
            raise ValueError(f"default {default!r}: must be {self.allowed}")

    def _own(self, what: str, value: Any) -> Any:
        """A declared value in the parameter's type."""
        if value is None:
            return None
        if self.kind is float and type(value) is int:
            value = float(value)
        if type(value) is not self.kind:
            raise TypeError(f"{what} {value!r}: must be {KINDS[self.kind]}, like the default")
        if self.kind is float and not math.isfinite(value):
            raise ValueError(f"{what} {value!r}: must be finite")
        return value

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> V: ...
    def __get__(self, instance: object | None, owner: type) -> Self | V:
        # Found only on the class: an instance has the value under the same name.
        return self

    def allows(self, value: Any) -> bool:
        """Whether a value of the right type is within bounds and choices."""
        if self.choices is not None:
            return value in self.choices
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    @property
    def allowed(self) -> str:
        """The values that are allowed, for a message."""
        if self.choices is not None:
            return "one of " + ", ".join(value_text(each) for each in self.choices)
        kind = KINDS[self.kind]
        if self.low is not None and self.high is not None:
            return f"{kind} from {self.low} to {self.high}"
        if self.low is not None:
            return f"{kind}, at least {self.low}"
        return kind if self.high is None else f"{kind}, at most {self.high}"

    def parse(self, given: Given) -> Any:
        """A given value in the parameter's type.

        Raises:
            ValueError: it is of another type, or not allowed.
        """
        value = self._from_text(given) if isinstance(given, str) else given
        if self.kind is float and type(value) is int:
            value = float(value) if abs(value) < 1 << 1023 else math.inf
        if type(value) is not self.kind or (self.kind is float and not math.isfinite(value)):
            raise ValueError(given)
        if not self.allows(value):
            raise ValueError(given)
        return value

    def _from_text(self, text: str) -> Any:
        if self.kind is bool:
            return BOOLS.get(text.lower(), text)
        if self.kind is int:
            return int(text) if WHOLE.fullmatch(text) else text
        return float(text) if self.kind is float and text.isascii() else text


class Params(NamedTuple):
    """The parameters of one run."""

    values: dict[str, Any]
    """All of them, in the order of their declaration."""
    changed: dict[str, Any]
    """Those whose value is not the default."""

    @property
    def text(self) -> str:
        """All values on one line, in the form of the setting."""
        return params_text(self.values)

    @property
    def identity(self) -> str:
        """What distinguishes the run from one without ``STRATEGY_PARAMS``; empty if nothing."""
        return repr(sorted(self.changed.items())) if self.changed else ""


def declared(strategy: type) -> dict[str, Param[Any]]:
    """The parameters of a class and its parents, by name.

    Raises:
        TypeError: one has the name of something else that the parents have.
    """
    found: dict[str, Param[Any]] = {}
    for kind in reversed(strategy.__mro__):
        for name, value in vars(kind).items():
            if not isinstance(value, Param):
                found.pop(name, None)
                continue
            taken = name not in found and any(name in vars(base) for base in kind.__mro__[1:])
            if taken or name in RESERVED or name.startswith("_"):
                raise TypeError(f"a parameter cannot have the name {name}; take another")
            found[name] = value
    return found


def resolve(strategy: type, settings: Settings) -> Params:
    """The values of a strategy's parameters in a run with these settings.

    Raises:
        ParamError: lists every unknown parameter and every value that is not allowed.
        TypeError: as of :func:`declared`.
        AttributeError: a default comes from a setting that does not exist.
    """
    params = declared(strategy)
    values = {
        name: getattr(settings, each.setting) if each.setting else each.default
        for name, each in params.items()
    }
    problems, changed = [], {}
    for name, given in read_params(settings.strategy_params).items():
        if name not in params:
            problems.append(f"STRATEGY_PARAMS: {_unknown(strategy.__name__, name, params)}")
            continue
        try:
            value = params[name].parse(given)
        except ValueError:
            problem = f"{name}={value_text(given)}: must be {params[name].allowed}"
            problems.append(f"STRATEGY_PARAMS: {problem}")
            continue
        if value != values[name]:
            values[name] = changed[name] = value
    if problems:
        raise ParamError("\n".join(problems))
    return Params(values, changed)


def _unknown(strategy: str, name: str, params: Mapping[str, object]) -> str:
    what = f"{strategy} has no parameter {value_text(name)}"
    if not params:
        return f"{what}; it has none"
    near = difflib.get_close_matches(name.lower(), params, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? It has" if near else "it has"
    return f"{what}; {hint} {', '.join(params)}"
