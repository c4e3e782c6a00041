"""How is Feast imported in two thirds of the time? Its classes get their checks of types, each method by itself.

Feast lets typeguard rewrite 242 methods, so that they check their arguments. For each of them, typeguard rewrites all
methods of its class and keeps one. Here the others are left out before they are rewritten, as typeguard leaves out
other classes; the checks are the same.
"""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def rewrite_one_method() -> None:
    """Let typeguard rewrite the method that it keeps and no other; call it before `feast` is imported."""
    try:
        from typeguard import _decorators
        from typeguard._transformer import TypeguardTransformer
    except ImportError:  # another version, which takes the time it takes
        return

    class OneMethod(TypeguardTransformer):
        def visit_FunctionDef(self, node: Any) -> Any:  # noqa: N802 so that typeguard finds it
            here, wanted = (*self._memo.path, node.name), self._target_path
            if wanted is not None and any(one != other for one, other in zip(here, wanted, strict=False)):
                self._memo.local_names.add(node.name)
                return None
            return super().visit_FunctionDef(node)

    _decorators.TypeguardTransformer = OneMethod  # type: ignore[attr-defined]  # it is none of its public names
