"""Do Feast's classes get the checks that typeguard would give them, with one method rewritten at a time?"""

from __future__ import annotations

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

from features.ground.checked_types import rewrite_one_method

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
    found: Any = _decorators.instrument(function)  # type: ignore[type-var]
    return found if isinstance(found, str) else parts(found.__code__)


def test_a_method_is_rewritten_as_typeguard_rewrites_it(shelves: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    rewrite_one_method()
    ours = _decorators.TypeguardTransformer
    assert ours is not TypeguardTransformer
    shelf, first = shelves.Shelf, shelves.Shelf.__dict__["first"]
    functions = [shelf.__init__, first.fget, first.fset, shelf.__dict__["of"].__func__, shelf.add, shelf.later]
    functions += [shelf.Inner.size, shelves.alone]
    functions += [one for one in vars(feast.Entity).values() if isfunction(one) and not hasattr(one, "__wrapped__")]
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
    rewrite_one_method()
    _decorators.instrument(shelves.Shelf.__init__)
    assert seen == ["__init__", "inner"]
