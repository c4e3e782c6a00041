"""How is Feast imported in a sixth of the time? Its checks of types are made when a method is first called.

Feast lets typeguard rewrite 242 methods when it is imported, so that they check their arguments, and imports torch for
two methods that give tensors. A run calls some dozen of the methods and none of the two. Here a method is rewritten at
its first call, and torch is imported when a tensor is wanted; the checks are the same.

For each method, typeguard rewrites all methods of its class and keeps one. The others are left out before that, as
typeguard leaves out other classes.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType
from typing import Any

Rewritten = Callable[..., Any] | str
"""A method that checks its arguments, or why there is none."""


@functools.cache
def quicken_feast() -> None:
    """Let Feast's classes be made quickly; call it before `feast` is imported."""
    sys.meta_path.insert(0, _LateTorch())
    try:
        from typeguard import _decorators
        from typeguard._transformer import TypeguardTransformer

        instrument = _decorators.instrument
    except (ImportError, AttributeError):  # another version, which takes the time it takes
        return

    class OneMethod(TypeguardTransformer):
        def visit_FunctionDef(self, node: Any) -> Any:  # noqa: N802 so that typeguard finds it
            here, wanted = (*self._memo.path, node.name), self._target_path
            if wanted is not None and any(one != other for one, other in zip(here, wanted, strict=False)):
                self._memo.local_names.add(node.name)
                return None
            return super().visit_FunctionDef(node)

    _decorators.TypeguardTransformer = OneMethod  # type: ignore[attr-defined]  # it is none of its public names
    _decorators.instrument = functools.partial(at_first_call, instrument)  # type: ignore[assignment]


def at_first_call(instrument: Callable[[Any], Rewritten], function: Any) -> Rewritten:
    """Return a function that is rewritten when it is called for the first time, or why it cannot be.

    Args:
        instrument: typeguard's, which rewrites it.
        function: what shall check its arguments. One that is wrapped, that is no plain function for Python's own
            questions, or whose annotations may name what its surroundings hold now, is rewritten at once.
    """
    plain = inspect.isfunction(function) and not hasattr(function, "__wrapped__")
    if not plain or "<locals>" in function.__qualname__ or _is_lazy(function):
        return instrument(function)
    checking: Callable[..., Any] | None = None

    @functools.wraps(function)
    def checked(*args: Any, **named: Any) -> Any:
        nonlocal checking
        if checking is None:
            found = instrument(function)
            checking = function if isinstance(found, str) else found
        return checking(*args, **named)

    return checked


def _is_lazy(function: Any) -> bool:
    kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    return any(is_kind(function) for is_kind in kinds)


class _LateTorch(MetaPathFinder, Loader):
    """Finds a `torch_wrapper` for Feast that imports torch when it is asked for it, not when it is imported."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        return spec_from_loader(fullname, self) if fullname == "feast.torch_wrapper" else None

    def exec_module(self, module: ModuleType) -> None:
        module.get_torch = _torch  # type: ignore[attr-defined]


def _torch() -> ModuleType:
    import torch

    return torch
