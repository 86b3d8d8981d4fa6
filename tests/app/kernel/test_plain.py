"""The plain kernel takes the compiled one's place: the same names, arguments and objects."""

import ast
import copy
import inspect
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.kernel import _kernel
from app.kernel.plain import kernel as plain_kernel
from app.model.tick import TICK_DTYPE
from tests.support.kernel.helpers import BOTH, records

LIMIT = settings(max_examples=150, deadline=None, derandomize=True)
DECLARATIONS = Path(_kernel.__file__).with_name("_kernel.pyi")
if not DECLARATIONS.exists():
    pytest.skip("an image has no declarations of types", allow_module_level=True)
DECLARED = ast.parse(DECLARATIONS.read_text()).body
VALUES = [
    each.target.id
    for each in DECLARED
    if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
]
FUNCTIONS = [each for each in DECLARED if isinstance(each, ast.FunctionDef)]
CLASSES = [each for each in DECLARED if isinstance(each, ast.ClassDef) and each.name != "Damaged"]


@BOTH
def kernel(request: pytest.FixtureRequest) -> Any:
    return request.param


def declared_arguments(function: ast.FunctionDef) -> list[tuple[str, bool]]:
    """Names, and whether each may be left out."""
    arguments = function.args
    left_out = [False] * (len(arguments.args) - len(arguments.defaults))
    left_out += [True] * len(arguments.defaults)
    pairs = list(zip([each.arg for each in arguments.args], left_out, strict=True))
    return pairs + [(each.arg, False) for each in arguments.kwonlyargs]


def arguments_of(function: Any) -> list[tuple[str, bool]]:
    """The same of what there is."""
    parameters = inspect.signature(function).parameters.values()
    return [(each.name, each.default is not inspect.Parameter.empty) for each in parameters]


def test_the_declaration_is_read() -> None:
    assert {"COMPILED", "MARK", "TRACE_OK"} <= set(VALUES)
    assert len(FUNCTIONS) >= 9
    assert len(CLASSES) >= 15


def test_every_constant_has_the_same_value() -> None:
    for name in VALUES:
        if name not in ("COMPILED",):
            assert getattr(plain_kernel, name) == getattr(_kernel, name), name
    assert not plain_kernel.COMPILED


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
def test_every_function_takes_what_is_declared(function: ast.FunctionDef) -> None:
    found = arguments_of(getattr(plain_kernel, function.name))
    assert found == declared_arguments(function)


@pytest.mark.parametrize("declared", CLASSES, ids=lambda declared: declared.name)
def test_every_class_has_what_is_declared(declared: ast.ClassDef) -> None:
    found = getattr(plain_kernel, declared.name)
    for member in declared.body:
        if isinstance(member, ast.FunctionDef):
            there = inspect.getattr_static(found, member.name)
            if any(isinstance(each, ast.Name) for each in member.decorator_list):
                assert isinstance(there, property), member.name
            else:
                assert arguments_of(there) == declared_arguments(member), member.name


def test_all_names_are_those_of_the_declaration() -> None:
    named = {each.name for each in [*FUNCTIONS, *CLASSES]} | set(VALUES) | {"Damaged"}
    assert set(plain_kernel.__all__) == named
    if _kernel.COMPILED:
        assert all(hasattr(_kernel, name) for name in named)


# ---- Objects that strategies and tools see


def intent(kernel: Any) -> Any:
    return kernel.Intent(7, 11, 2, "MSFT", -1, 0, 1.5, 13, 8)


def test_an_intent_cannot_be_changed_and_can_be_copied(kernel: Any) -> None:
    made = intent(kernel)
    for name in ("seq", "event_ns", "symbol_index", "symbol", "signal", "target", "price"):
        with pytest.raises(AttributeError):
            setattr(made, name, getattr(made, name))
    for twin in (copy.copy(made), pickle.loads(pickle.dumps(made))):
        assert repr(twin) == repr(made)
        assert (twin.recv_us, twin.order_id, twin.symbol_index) == (13, 8, 2)


def test_an_intent_has_no_numbers_of_numpy(kernel: Any) -> None:
    row = records((5, 1, 2.5))[0]
    made = kernel.Intent(
        row["seq"], row["event_ns"], row["symbol"], "A", np.int8(1), np.int8(1), row["price"],
        row["recv_us"], row["seq"] + 1,
    )  # fmt: skip
    numbers = (made.seq, made.event_ns, made.symbol_index, made.signal, made.target, made.price)
    assert [type(each) for each in numbers] == [int] * 5 + [float]


def test_intents_look_alike() -> None:
    assert repr(intent(plain_kernel)) == repr(intent(_kernel))


def test_a_tick_cannot_be_changed(kernel: Any) -> None:
    seen: list[Any] = []
    signals = np.zeros(1, np.int8)
    kernel.call_on_tick(seen.append, records((5, 0, 2.5)), np.array([44], np.int16), ["A"], signals)
    (tick,) = seen
    assert (tick.symbol, tick.price, tick.event_ns, tick.seq, tick.sentiment) == (
        "A", 2.5, 5, 0, 44,
    )  # fmt: skip
    assert repr(tick) == "Tick(symbol='A', price=2.5, event_ns=5, seq=0, sentiment=44)"
    with pytest.raises(AttributeError):
        tick.price = 3.0


def test_the_answers_of_on_tick(kernel: Any) -> None:
    told = ["BUY", "SELL", "FLAT", "HOLD", None, "SELL"]
    signals, answers = np.full(6, 9, np.int8), iter(told)
    ticks, moods = records(*[(i, 0, 1.0) for i in range(6)]), np.zeros(6, np.int16)
    kernel.call_on_tick(lambda _: next(answers), ticks, moods, ["A"], signals)
    assert signals.tolist() == [1, -1, 2, 0, 0, -1]
    for wrong in ("buy", 1, [], {}):
        signals[:] = 9
        with pytest.raises(ValueError, match="on_tick returned"):
            kernel.call_on_tick(lambda _, w=wrong: w, ticks, moods, ["A"], signals)
        assert signals.tolist() == [kernel.UNDECIDED, 9, 9, 9, 9, 9]


# ---- Floats, to the last bit

prices = st.floats(1e-9, 9e9)
ticks = st.lists(st.tuples(st.integers(0, 2), prices, st.integers(0, 10**12)), max_size=25)
fill = st.tuples(st.integers(0, 30), st.integers(0, 2), st.floats(-1e6, 1e6), prices)


@LIMIT
@given(ticks, st.lists(fill, max_size=12), st.sampled_from([0.0, 1e-15, 3e-11]), st.integers(1, 6))
def test_the_worth_of_holdings(
    rows: list[tuple[int, float, int]],
    trades: list[tuple[int, int, float, float]],
    a_ns: float,
    step: int,
) -> None:
    made = np.zeros(len(rows), TICK_DTYPE)
    for i, (symbol, price, event_ns) in enumerate(rows):
        made[i] = (event_ns, price, i + 3, 0, symbol, 0)
    fills = [
        (seq, symbol, qty, price, abs(qty) / 7, 0.0, 0.0, price / 3, max(-qty * price, 0.0), seq)
        for seq, symbol, qty, price in sorted(trades)
    ]
    told = []
    for each in (_kernel, plain_kernel):
        worth = each.Worth(np.zeros(3), np.zeros(3, np.int64), a_ns, step)
        times: list[int] = []
        equity: list[float] = []
        at = worth.follow(made[:10], fills, 0, times, equity)
        at = worth.follow(made[10:], fills, at, times, equity)
        told.append((at, times, equity, worth.equity(), worth.price.tolist()))
    assert told[0] == told[1]


@LIMIT
@given(st.lists(st.one_of(st.integers(-10, 2**63 - 1), st.integers(0, 1000)), max_size=40))
def test_the_histogram(values: list[int]) -> None:
    buckets = [np.zeros(3000, np.uint64) for _ in range(2)]
    for value in values:
        _kernel.record_latency(buckets[0], value)
        plain_kernel.record_latency(buckets[1], value)
    assert buckets[0].tolist() == buckets[1].tolist()


# ---- Which of the two is there


def test_an_extension_module_is_taken_first() -> None:
    """Else a stack with a compiler would silently be slow."""
    suffix = Path(_kernel.__file__).suffix
    assert (suffix == ".so") == _kernel.COMPILED
    assert Path(_kernel.__file__).with_name("_kernel.py").exists()
    assert "app.kernel._kernel" in sys.modules
