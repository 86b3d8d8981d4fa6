"""Parameters of a strategy: declaration, values, refusals, identity."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.backtest.replay import run
from app.config.settings import Settings
from app.market_data.sources.loader import open_feed
from app.runtime.run.strategy_params import ParamError, given_text, params_text, with_params
from app.strategy.attach import fingerprint
from app.strategy.base import Context, Strategy, params_of
from app.strategy.cross_check import CrossCheck
from app.strategy.engine import Engine
from app.strategy.failure import StrategyError
from app.strategy.kit.params import Param, resolve
from tests.support.paths import ROOT

SAMPLE = str(ROOT / "data/market_data.csv")


class Tuned(Strategy):
    """One parameter of each type."""

    window = Param(5, low=1, high=500)
    ratio = Param(0.5, low=0, high=2)
    shorts = Param(True)
    mode = Param("both", choices=("both", "long only"))
    floor = Param(0, low=-3)

    def __init__(self, context: Context) -> None:
        self.seen_first = (self.window, self.ratio)
        super().__init__(context)

    def on_tick(self, tick: object) -> str:
        return "HOLD"


def values(text: str) -> dict[str, Any]:
    return resolve(Tuned, Settings(strategy_params=text)).values


def problems(text: str, strategy: type[Strategy] = Tuned) -> list[str]:
    with pytest.raises(ParamError) as caught:
        resolve(strategy, Settings(strategy_params=text))
    return str(caught.value).splitlines()


def test_an_instance_has_the_values_before_its_init_and_the_class_has_the_declarations() -> None:
    made = Engine(Tuned, ["A"], Settings(strategy_params="window=8 ratio=1")).strategy
    assert isinstance(made, Tuned)
    assert made.seen_first == (8, 1.0)
    assert (type(made.window), type(made.ratio)) == (int, float)
    assert (made.shorts, made.mode, made.floor) == (True, "both", 0)
    assert Tuned.window.default == 5
    assert Tuned(Context(["A"], Settings())).window == 5, "an instance that no engine makes"


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("window=1", "window", 1),
        ("window=+500", "window", 500),
        ("ratio=2e0", "ratio", 2.0),
        ("ratio=0", "ratio", 0.0),
        ("shorts=FALSE", "shorts", False),
        ("shorts=0", "shorts", False),
        ("mode='long only'", "mode", "long only"),
        ("floor=-3", "floor", -3),
    ],
)
def test_values_from_text(text: str, name: str, value: object) -> None:
    found = values(f"  {text}  ")
    assert found == {**resolve(Tuned, Settings()).values, name: value}
    assert type(found[name]) is type(value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("window=501", "window=501: must be a whole number from 1 to 500"),
        ("window=0", "window=0: must be a whole number from 1 to 500"),
        ("window=5.0", "window=5.0: must be a whole number from 1 to 500"),
        ("window=\u0665", "window='\u0665': must be a whole number from 1 to 500"),
        ("window=", "window='': must be a whole number from 1 to 500"),
        ("ratio=nan", "ratio=nan: must be a number from 0.0 to 2.0"),
        ("ratio=inf", "ratio=inf: must be a number from 0.0 to 2.0"),
        ("shorts=maybe", "shorts=maybe: must be true or false"),
        ("mode=short", "mode=short: must be one of both, 'long only'"),
        ("floor=-4", "floor=-4: must be a whole number, at least -3"),
        ("windw=8", "Tuned has no parameter windw; did you mean window? It has window, ratio, "
                    "shorts, mode, floor"),
        ("zzz=8", "Tuned has no parameter zzz; it has window, ratio, shorts, mode, floor"),
        ("8", "'8' is no name=value; give name=value pairs such as 'short=8 long=40', or a .toml "
              "or .json file"),
        ("=8", "'=8' is no name=value; give name=value pairs such as 'short=8 long=40', or a "
               ".toml or .json file"),
        ("window=8 window=9", "window is given twice"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_with_name_value_and_bounds(text: str, problem: str) -> None:
    assert problems(text) == [f"STRATEGY_PARAMS: {problem}"]


def test_all_problems_are_named_at_once() -> None:
    found = problems("window=0 windw=8 ratio=1 shorts=maybe")
    assert [line.split()[1].partition("=")[0] for line in found] == ["window", "Tuned", "shorts"]


def test_an_open_quote_and_a_strategy_without_parameters() -> None:
    (line,) = problems("mode='long")
    assert "No closing quotation" in line
    bare = type("Bare", (Strategy,), {})
    assert problems("a=1", bare) == ["STRATEGY_PARAMS: Bare has no parameter a; it has none"]


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".toml", "window = 8\nratio = 1\nshorts = false\nmode = 'long only'"),
        (".json", '{"window": 8, "ratio": 1, "shorts": false, "mode": "long only"}'),
    ],
)
def test_a_file_gives_the_same_run_as_the_pairs(tmp_path: Path, suffix: str, text: str) -> None:
    path = tmp_path / f"params{suffix}"
    path.write_text(text)
    settings = Settings(strategy_params=str(path))
    pairs = Settings(strategy_params="window=8 mode='long only' shorts=false ratio=1.0")
    assert resolve(Tuned, settings).values == resolve(Tuned, pairs).values
    assert resolve(Tuned, settings).identity == resolve(Tuned, pairs).identity
    assert given_text(settings) == "window=8 ratio=1 shorts=false mode='long only'"


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("p.toml", "window = 8\nwindow = 9", "Cannot overwrite a value"),
        ("p.json", '{"window": 8, "window": 9}', "window is given twice"),
        ("p.json", "[8]", "must be one object"),
        ("p.json", "{", "Expecting property name"),
        ("p.json", "[" * 60_000, "recursion"),
        ("p.json", '{"window": null}', "window is null; give a number, text, true or false"),
        ("p.toml", "window = [8]", "window is a list"),
        ("p.toml", "[window]\na = 1", "window is a table"),
        ("p.toml", "window = 2025-01-01", "window is a date"),
        ("p.toml", "window = true", "window=true: must be a whole number from 1 to 500"),
        ("p.toml", "shorts = 1", "shorts=1: must be true or false"),
        ("p.toml", "ratio = nan", "ratio=nan: must be a number from 0.0 to 2.0"),
        ("p.json", '{"ratio": ' + "9" * 400 + "}", "must be a number from 0.0 to 2.0"),
        ("p.json", '{"a": "' + "b" * 70_000 + '"}', "larger than 65536 bytes"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, name: str, text: str, problem: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    (line,) = problems(str(path))
    assert problem in line
    assert line.startswith("STRATEGY_PARAMS")


def test_a_missing_file_is_refused() -> None:
    assert problems("no/such.toml") == ["STRATEGY_PARAMS=no/such.toml: No such file or directory"]


@pytest.mark.parametrize(
    ("declare", "error"),
    [
        (lambda: Param(None), "must be a bool, int, float or str"),  # type: ignore[type-var]
        (lambda: Param("a", low="a"), "low and high are for numbers"),
        (lambda: Param(5, low=0.5), "low 0.5: must be a whole number, like the default"),
        (lambda: Param(5, low=6), "default 5: must be a whole number, at least 6"),
        (lambda: Param("a", choices=["b"]), "default 'a': must be one of b"),
        (lambda: Param(float("nan")), "must be finite"),
    ],
)
def test_a_wrong_declaration_is_refused(declare: Any, error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=error):
        declare()


@pytest.mark.parametrize("name", ["on_tick", "context", "_hidden", "failed_tick"])
def test_a_parameter_hides_nothing_of_the_strategy(name: str) -> None:
    wrong = type("Wrong", (Strategy,), {name: Param(1)})
    with pytest.raises(StrategyError, match=f"cannot have the name {name}; take another"):
        params_of(wrong, Settings())


def test_a_child_class_changes_a_parameter_or_fixes_it() -> None:
    changed = type("Changed", (Tuned,), {"window": Param(9, high=10)})
    fixed = type("Fixed", (Tuned,), {"window": 7})
    assert resolve(changed, Settings()).values["window"] == 9
    assert "window" not in resolve(fixed, Settings()).values
    assert Engine(fixed, ["A"], Settings()).strategy.window == 7  # type: ignore[attr-defined]


names = st.sampled_from(["window", "floor"])


@given(st.dictionaries(names, st.integers(1, 500)), st.sampled_from(["both", "long only"]))
def test_text_and_values_are_the_same_thing(numbers: dict[str, int], mode: str) -> None:
    found = values(params_text({**numbers, "mode": mode}))
    assert found == {**resolve(Tuned, Settings()).values, **numbers, "mode": mode}
    assert values(params_text(found)) == found


# ---- Identity


def test_only_values_that_are_not_the_default_change_the_name_of_a_run() -> None:
    def name(text: str, **settings: Any) -> str:
        chosen = Settings(strategy_params=text, **settings)
        return fingerprint(chosen, "feed", resolve(CrossCheck, chosen).identity)

    plain = name("")
    assert plain == fingerprint(Settings(), "feed")
    assert name("short=5") == name("long=20 short=5") == plain
    assert name("short=6") not in {plain, name("short=7"), name("", short_window_ticks=6)}
    assert name("short=6 long=40") == name("long=40 short=6")
    assert name("short=6", short_window_ticks=6) == name("", short_window_ticks=6)


# ---- The default strategy


def test_the_default_strategys_parameters_have_the_settings_as_defaults() -> None:
    settings = Settings(short_window_ticks=3, bullish_threshold=60, strategy_params="long=9")
    found = resolve(CrossCheck, settings)
    assert found.values == {"short": 3, "long": 9, "bullish": 60, "bearish": 50}
    assert found.changed == {"long": 9}


def test_parameters_trade_as_the_settings_do() -> None:
    base = Settings(data_path=SAMPLE, replay="once")
    feed = open_feed(base)

    def trades(**changes: Any) -> tuple[str, str]:
        result = run(msgspec.structs.replace(base, **changes), feed, 10_000)
        return result.trades_hash, result.params

    plain, shown = trades()
    assert shown == "short=5 long=20 bullish=50 bearish=50"
    by_params, shown = trades(strategy_params="short=8 long=40")
    assert shown == "short=8 long=40 bullish=50 bearish=50"
    assert by_params == trades(short_window_ticks=8, long_window_ticks=40)[0] != plain


def test_values_that_do_not_go_together_are_refused_as_settings() -> None:
    for text, problem in {
        "short=20": "short=20: must be below long=20",
        "bearish=51": "bearish=51: must not be above bullish=50",
    }.items():
        with pytest.raises(ParamError) as caught:
            Engine(CrossCheck, ["A"], Settings(strategy_params=text))
        assert str(caught.value) == f"STRATEGY_PARAMS: {problem}"


def test_the_page_draws_the_averages_that_the_default_strategy_trades() -> None:
    for text in ("short=8 long=40", "", "bullish=70 bearish=30"):
        settings = Settings(strategy_params=text)
        shown, traded = with_params(settings), resolve(CrossCheck, settings).values
        assert list(traded.values()) == [
            shown.short_window_ticks, shown.long_window_ticks,
            shown.bullish_threshold, shown.bearish_threshold,
        ]  # fmt: skip
    other = Settings(strategy="a.py:B", strategy_params="short=8")
    assert with_params(other) is other
    for wrong in ("short=x", "shrot=8", "8"):
        assert with_params(Settings(strategy_params=wrong)).short_window_ticks == 5
