"""Do Feast's classes get the checks that typeguard would give them, with each method rewritten when it is called?"""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from inspect import isfunction
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import feast
import pytest
from typeguard import TypeCheckError, _decorators
from typeguard._transformer import TypeguardTransformer

from features.ground.quick_feast import at_first_call, quicken_feast

quicken_feast()
INSTRUMENT: Callable[..., Any] = _decorators.instrument.args[0]  # type: ignore[attr-defined]
"""Typeguard's own."""
PLAIN = """
from typing import TYPE_CHECKING, overload
from typeguard import typechecked
if TYPE_CHECKING:
    from decimal import Decimal

@typechecked
class Shelf:
    def __init__(self, name: str, sizes: list[int]) -> None:
        def inner(size: int) -> int:
            return size
        self.name, self.sizes = name, [inner(size) for size in sizes]

    @property
    def first(self) -> int:
        return self.sizes[0]

    @first.setter
    def first(self, size: int) -> None:
        self.sizes[0] = size

    @classmethod
    def of(cls, sizes: "list[int]") -> "Shelf":
        return cls("of", sizes)

    @overload
    def add(self, size: int) -> None: ...
    @overload
    def add(self, size: str) -> None: ...
    def add(self, size: int | str) -> None:
        self.sizes.append(int(size))

    async def later(self, price: "Decimal") -> int:
        return 1

    class Inner:
        def size(self, other: int) -> int:
            return other

def alone(number: int) -> str:
    return number
"""


@pytest.fixture
def shelves(tmp_path: Path) -> Iterator[ModuleType]:
    path = tmp_path / "shelves_of_a_test.py"
    path.write_text(PLAIN)
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[path.stem]


def parts(code: CodeType) -> list[Any]:
    """Return what a function does, and the lines that its errors name."""
    inner = [parts(each) if isinstance(each, CodeType) else repr(each) for each in code.co_consts]
    return [code.co_name, code.co_code, code.co_names, code.co_freevars, [*code.co_lines()], inner]


def rewritten(function: Callable[..., Any], by: type[TypeguardTransformer], patch: pytest.MonkeyPatch) -> Any:
    patch.setattr(_decorators, "TypeguardTransformer", by)
    found: Any = INSTRUMENT(function)
    return found if isinstance(found, str) else parts(found.__code__)


def test_a_method_is_rewritten_as_typeguard_rewrites_it(shelves: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = _decorators.TypeguardTransformer
    assert ours is not TypeguardTransformer
    shelf, first = shelves.Shelf, shelves.Shelf.__dict__["first"]
    functions = [shelf.__init__, first.fget, first.fset, shelf.__dict__["of"].__func__, shelf.add, shelf.later]
    functions += [shelf.Inner.size, shelves.alone]
    functions += [inspect.unwrap(one) for one in vars(feast.Entity).values() if isfunction(one)]
    functions = [inspect.unwrap(one) for one in functions]
    assert len(functions) > 14
    for function in functions:
        assert rewritten(function, ours, monkeypatch) == rewritten(function, TypeguardTransformer, monkeypatch)


def test_wrong_arguments_are_told(shelves: ModuleType) -> None:
    with pytest.raises(TypeCheckError, match='"name"'):
        shelves.Shelf(7, [1])
    with pytest.raises(TypeCheckError, match='"name"'):
        feast.Entity(name=7)


def test_other_methods_are_not_rewritten(shelves: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    visit = TypeguardTransformer.visit_FunctionDef
    monkeypatch.setattr(
        TypeguardTransformer, "visit_FunctionDef", lambda self, node: (seen.append(node.name), visit(self, node))[1]
    )
    INSTRUMENT(inspect.unwrap(shelves.Shelf.__init__))
    assert seen == ["__init__", "inner"]


def test_a_method_is_rewritten_once_when_it_is_called() -> None:
    asked: list[str] = []

    def instrument(function: Any) -> Any:
        asked.append(function.__name__)
        return INSTRUMENT(function)

    checked: Any = at_first_call(instrument, inspect.unwrap(feast.Entity.__init__))
    assert not asked and inspect.signature(checked) == inspect.signature(feast.Entity.__init__)
    for _ in range(2):
        with pytest.raises(TypeCheckError, match='"name"'):
            checked(object.__new__(feast.Entity), name=7)
    assert asked == ["__init__"]


async def waits(number: int) -> int:
    return number


def counts(number: int) -> Iterator[int]:
    yield number


def test_what_must_be_known_at_once_is_rewritten_at_once() -> None:
    """Python tells coroutines and generators by the function itself; annotations may name what is around it."""

    def inside(number: int) -> int:
        return number

    for function in (waits, counts, inside):
        assert at_first_call(lambda asked: f"asked of {asked.__name__}", function) == f"asked of {function.__name__}"


def test_what_cannot_be_rewritten_is_called_as_it_is() -> None:
    plain = at_first_call(lambda function: "no source", inspect.unwrap(feast.Entity.__hash__))
    assert plain(feast.Entity(name="who")) == hash(feast.Entity(name="who"))  # type: ignore[operator]


def test_importing_feast_rewrites_nothing_and_leaves_torch_alone() -> None:
    code = """
import sys
from typeguard import _decorators
asked, instrument = [], _decorators.instrument
_decorators.instrument = lambda function: (asked.append(function), instrument(function))[1]
from features.ground.quick_feast import quicken_feast
quicken_feast()
import feast
print(len(asked), "torch" in sys.modules)
from feast.torch_wrapper import get_torch
print(get_torch().__name__)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    rewritten, torch, name = done.stdout.split()
    assert int(rewritten) < 10 and (torch, name) == ("False", "torch")
