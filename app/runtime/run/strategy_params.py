"""``STRATEGY_PARAMS``: the values given to a strategy's parameters, before their types are known.

Which parameters there are, only the strategy's class says; see :mod:`app.strategy.kit.params`.
"""

import json
import shlex
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from app.config.settings import Settings, SettingsError

Given = str | bool | int | float
"""From a file with its type; from the setting's own text always as text."""

FILE_BYTES_MAX: Final = 65536
PARAM_FILES: Final = (".toml", ".json")
FORM: Final = "give name=value pairs such as 'short=8 long=40', or a .toml or .json file"

CROSS_CHECK: Final = "app.strategy.cross_check:CrossCheck"
SETTING_OF: Final = {
    "short": "short_window_ticks",
    "long": "long_window_ticks",
    "bullish": "bullish_threshold",
    "bearish": "bearish_threshold",
}
"""The default strategy's parameters, and the settings that have their defaults."""


class ParamError(SettingsError):
    """Parameters of a strategy are wrong; one line per problem."""


def read_params(text: str) -> dict[str, Given]:
    """The values that ``STRATEGY_PARAMS`` gives, in its order.

    Raises:
        ParamError: neither pairs nor a file of them.
    """
    text = text.strip()
    if text.endswith(PARAM_FILES) and "=" not in text:
        return _read_file(Path(text))
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ParamError(f"STRATEGY_PARAMS={text}: {error}; {FORM}") from None
    values: dict[str, Given] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise ParamError(f"STRATEGY_PARAMS: {word!r} is no name=value; {FORM}")
        if name in values:
            raise ParamError(f"STRATEGY_PARAMS: {name} is given twice")
        values[name] = value
    return values


def _read_file(path: Path) -> dict[str, Given]:
    where = f"STRATEGY_PARAMS={path}"
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_BYTES_MAX + 1)
        if len(raw) > FILE_BYTES_MAX:
            raise ParamError(f"{where}: larger than {FILE_BYTES_MAX} bytes")
        text = raw.decode("utf-8-sig")
        if path.suffix == ".toml":
            found: Any = tomllib.loads(text)
        else:
            found = json.loads(text, object_pairs_hook=_without_doubles)
    except OSError as error:
        raise ParamError(f"{where}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ParamError(f"{where}: {error}") from None
    if not isinstance(found, dict):
        raise ParamError(f"{where}: must be one object, such as {{'short': 8}}")
    for name, value in found.items():
        if not isinstance(value, (str, bool, int, float)):
            kind = {dict: "a table", list: "a list", type(None): "null"}.get(type(value), "a date")
            raise ParamError(f"{where}: {name} is {kind}; give a number, text, true or false")
    return found


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in found if names.count(name) > 1)
        raise ValueError(f"{double} is given twice")
    return found


def params_text(values: Mapping[str, Given]) -> str:
    """The values on one line, in the form of the setting."""
    return " ".join(f"{name}={value_text(value)}" for name, value in values.items())


def value_text(value: Given) -> str:
    """One value as the setting takes it, quoted where that is needed."""
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    return shlex.quote(text) if text.isprintable() else repr(text)


def setting_text(values: Mapping[str, Given]) -> str:
    """What ``STRATEGY_PARAMS`` takes; unlike a text to be shown, it keeps every character."""
    words = {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in values.items()
    }
    return " ".join(f"{name}={shlex.quote(word)}" for name, word in words.items())


def given_text(settings: Settings) -> str:
    """What ``STRATEGY_PARAMS`` gives, also from a file; for a report."""
    if not settings.strategy_params:
        return "defaults"
    try:
        return params_text(read_params(settings.strategy_params))
    except ParamError:
        return settings.strategy_params


def with_params(settings: Settings) -> Settings:
    """Settings that have the default strategy's parameters where their defaults are.

    For who draws its averages.  The strategy itself refuses values that are wrong; here they
    change nothing.
    """
    if settings.strategy != CROSS_CHECK or not settings.strategy_params:
        return settings
    try:
        given = read_params(settings.strategy_params)
        return msgspec.structs.replace(
            settings, **{SETTING_OF[name]: int(value) for name, value in given.items()}
        )
    except (ParamError, KeyError, ValueError, OverflowError):
        return settings
