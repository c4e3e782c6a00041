"""What does the source say about the fields of a model? The strings below them, read only when somebody asks.

Pydantic can read them while a class is made; that takes a third of the time in which a scheduler parses a DAG, which
shows none of them.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from types import MappingProxyType


@cache
def field_docs(model: type) -> Mapping[str, str]:
    """Return the string below each field of a class and of what it inherits from, in one line, by the field's name."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if not base.__module__.startswith(("builtins", "pydantic", "typing")):
            found |= _own(base)
    return MappingProxyType(found)


def _own(model: type) -> dict[str, str]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(model)))
    except (OSError, TypeError, SyntaxError):  # made without a file
        return {}
    (made,) = tree.body
    body = made.body if isinstance(made, ast.ClassDef) else []
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
