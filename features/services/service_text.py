"""What does a feature service hold, as far as the text of its definitions tells? Nothing is imported or run.

Importing Feast takes seconds, and checking a pipeline must not execute a file. So the few expressions that
definitions are made of are read here: constants, tuples, constructors, the helpers of `features.definitions.common`.
Whatever else decides a value, it counts as not told.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from features.definitions.recipe import (
    Activity,
    Count,
    Decay,
    Distinct,
    History,
    Last,
    Profile,
    Rate,
    Recipe,
    Since,
    Sum,
)
from features.readable import other_keys

SHIPPED = Path(__file__).resolve().parents[1] / "definitions"
"""Folder of the shipped definitions."""
_PACKAGE = "features.definitions"
_MOST = 10_000
"""Elements of one list that are looked at."""
_TYPES = {
    **{"Int32": "int32", "Int64": "int64", "Float32": "float32", "Float64": "float64"},
    **{"String": "string", "Bool": "bool", "Bytes": "bytes", "UnixTimestamp": "unix_timestamp"},
}
_RECIPES = {one.__name__: one for one in (Activity, Count, Decay, Distinct, History, Last, Profile, Rate, Since, Sum)}
_POSITIONAL = {"listed_field": ("name", "length", "timed_by"), "times_field": ("name", "length")}


class _UntoldError(Exception):
    """The text does not tell a value."""


@dataclass(frozen=True)
class TextFeature:
    """A feature: its Feast dtype, how its tags encode it (empty by its dtype), and whether it must be asked for."""

    dtype: str
    kind: str = ""
    auxiliary: bool = False


@dataclass(frozen=True)
class TextService:
    """What the text tells about a service."""

    keys: Mapping[str, str] | None
    """Entity key columns and their dtypes; None where one of them is not told."""
    features: Mapping[str, TextFeature] | None
    """By name; None where one of them is not told."""
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    """Of the views' sources, by source, as far as they are told."""


def told(service: str, file: Path | None = None) -> TextService | None:
    """Return what the text tells about a service, or None when it does not tell which views it has."""
    for path in (file,) if file is not None else sorted(SHIPPED.glob("*.py")):
        try:
            found = _services(path, path.stat().st_mtime_ns)
        except OSError:
            continue
        if service in found:
            return found[service]
    return None


def keys_without_field(file: Path) -> Iterator[tuple[int, str, str]]:
    """Yield line, view and key where a view's schema has no Field for a key of its entities, as far as that is told.

    Raises:
        SyntaxError: it is no Python.
    """
    scope = _Scope(file)
    for call in scope.calls("FeatureView"):
        view = scope.quiet(call)
        if not isinstance(view, _Made) or not isinstance(view.given.get("schema"), tuple):
            continue
        fields = [one.given.get("name") for one in view.given["schema"] if isinstance(one, _Made)]
        if None in fields or len(fields) != len(view.given["schema"]):
            continue  # the text does not tell every name
        for key in _keys(view) or ():
            if key not in fields:
                yield call.lineno, str(view.given.get("name", "")), key


def keys_unlike_recipe(file: Path) -> Iterator[tuple[int, str]]:
    """Yield line and sentence where the entities of a view and its recipe have different keys, as far as that is told.

    Raises:
        SyntaxError: it is no Python.
    """
    scope = _Scope(file)
    recipes = _quiet(scope.recipes) or {}
    for call in scope.calls("FeatureView"):
        view = scope.quiet(call)
        keys = _keys(view) if isinstance(view, _Made) else None
        recipe = recipes.get(str(view.given.get("source"))) if keys else None
        if keys and recipe and (fault := other_keys(str(view.given.get("name", "")), keys, recipe.keys)):
            yield call.lineno, fault


@lru_cache(maxsize=64)
def _services(path: Path, changed: int) -> Mapping[str, TextService]:
    """Return the services of a file; `changed` only makes an edited file another one."""
    try:
        scope = _Scope(path)
        recipes = _quiet(scope.recipes) or {}
        calls = [scope.quiet(expression) for expression in scope.calls("FeatureService")]
    except (SyntaxError, ValueError, RecursionError):
        return {}
    made = [call for call in calls if isinstance(call, _Made)]
    return {service.given["name"]: _told(service, recipes) for service in made if "features" in service.given}


@dataclass(frozen=True)
class _Made:
    """A Feast object of which some arguments are told."""

    kind: str
    given: Mapping[str, Any]
    untold: frozenset[str] = frozenset()


def _told(service: _Made, recipes: Mapping[str, Recipe]) -> TextService:
    keys: dict[str, str] | None = {}
    features: dict[str, TextFeature] | None = {}
    used = {}
    for chosen in service.given["features"]:
        view, names = chosen if isinstance(chosen, tuple) else (chosen, None)
        if not isinstance(view, _Made) or view.kind != "FeatureView":
            return TextService(None, None)
        own = _keys(view)
        keys = {**keys, **own} if keys is not None and own is not None else None
        fields = _fields(view, own, names)
        features = {**features, **fields} if features is not None and fields is not None else None
        name = str(view.given.get("source"))
        if name in recipes:
            used[name] = recipes[name]
    return TextService(keys, features, used)


def _keys(view: _Made) -> dict[str, str] | None:
    entities = view.given.get("entities")
    if entities is None or not all(isinstance(e, _Made) and len(e.given.get("join_keys", ())) == 1 for e in entities):
        return None
    return {entity.given["join_keys"][0]: entity.given.get("value_type", "") for entity in entities}


def _fields(view: _Made, keys: Mapping[str, str] | None, names: Any) -> dict[str, TextFeature] | None:
    schema = view.given.get("schema")
    if schema is None or keys is None:
        return None
    found = {}
    for one in schema:
        if not isinstance(one, _Made) or one.untold & {"name", "dtype", "tags"} or "dtype" not in one.given:
            return None
        name, tags = one.given["name"], one.given.get("tags", {})
        if name not in keys and (names is None or name in names):
            found[name] = TextFeature(one.given["dtype"], tags.get("kind", ""), tags.get("role") == "auxiliary")
    return found


class _Scope:
    """The names of a module, evaluated when they are asked for."""

    def __init__(self, path: Path) -> None:
        self.tree = ast.parse(path.read_bytes())
        self.bound: dict[str, ast.expr] = {}
        self.imported: dict[str, tuple[str, str]] = {}
        twice: set[str] = set()
        for node in self.tree.body:
            if isinstance(node, ast.ImportFrom) and node.module:
                self.imported |= {a.asname or a.name: (node.module, a.name) for a in node.names}
                continue
            for name, value in _bindings(node):
                twice |= {name} & self.bound.keys()
                if value is None:
                    twice.add(name)
                else:
                    self.bound[name] = value
        for name in twice:  # which of the values holds is not told
            self.bound.pop(name, None)

    def calls(self, function: str) -> Iterator[ast.Call]:
        """Yield every call of a function by its name."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call) and _called(node) == function:
                yield node

    def recipes(self) -> dict[str, Recipe]:
        """Return the recipes of `DEFINITIONS`."""
        for call in self.calls("Definitions"):
            for keyword in call.keywords:
                if keyword.arg == "recipes":
                    found = self.value(keyword.value, {})
                    return {k: v for k, v in found.items() if isinstance(v, Profile | Activity)}
        return {}

    def quiet(self, node: ast.expr) -> Any:
        """Return a value, or None where it is not told."""
        return _quiet(lambda: self.value(node, {}))

    def value(self, node: ast.expr, local: Mapping[str, Any]) -> Any:
        """Return the value of an expression.

        Raises:
            _UntoldError: the text does not tell it.
        """
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return self._named(node.id, local)
        if isinstance(node, ast.Tuple | ast.List):
            return tuple(self._elements(node.elts, local))
        if isinstance(node, ast.GeneratorExp | ast.ListComp):
            return tuple(self._comprehended(node, local))
        if isinstance(node, ast.Dict):
            return self._dict(node, local)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr | ast.Add):
            left, right = self.value(node.left, local), self.value(node.right, local)
            if isinstance(left, dict) and isinstance(right, dict):
                return left | right
            if isinstance(left, tuple) and isinstance(right, tuple):
                return left + right
            if isinstance(left, str) and isinstance(right, str):
                return left + right
        if isinstance(node, ast.JoinedStr):
            return "".join(self._piece(part, local) for part in node.values)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ValueType":
            return node.attr.lower()
        if isinstance(node, ast.Subscript):
            return self.value(node.value, local), self.value(node.slice, local)
        if isinstance(node, ast.Call):
            return self._made(node, local)
        raise _UntoldError

    def _named(self, name: str, local: Mapping[str, Any]) -> Any:
        if name in local:
            return local[name]
        if name in self.bound:
            return self.value(self.bound[name], {})
        module, original = self.imported.get(name, ("", ""))
        if module == "feast.types" and original in _TYPES:
            return _TYPES[original]
        if module.startswith(f"{_PACKAGE}."):
            path = SHIPPED / f"{module.removeprefix(f'{_PACKAGE}.')}.py"
            if path.is_file():
                return _Scope(path)._named(original, {})
        raise _UntoldError

    def _elements(self, nodes: list[ast.expr], local: Mapping[str, Any]) -> Iterator[Any]:
        for node in nodes:
            if isinstance(node, ast.Starred):
                inner = self.value(node.value, local)
                if not isinstance(inner, tuple):
                    raise _UntoldError
                yield from inner
            else:
                yield self.value(node, local)

    def _comprehended(self, node: ast.GeneratorExp | ast.ListComp, local: Mapping[str, Any]) -> Iterator[Any]:
        loop = node.generators[0]
        if len(node.generators) > 1 or loop.ifs or not isinstance(loop.target, ast.Name):
            raise _UntoldError
        values = self.value(loop.iter, local)
        if not isinstance(values, tuple):
            raise _UntoldError
        for value in values:
            yield self.value(node.elt, {**local, loop.target.id: value})

    def _dict(self, node: ast.Dict, local: Mapping[str, Any]) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            told = self.value(value, local)
            if key is not None:
                found[self.value(key, local)] = told
            elif isinstance(told, dict):
                found |= told
            else:
                raise _UntoldError
        return found

    def _piece(self, node: ast.expr, local: Mapping[str, Any]) -> str:
        if isinstance(node, ast.FormattedValue) and node.format_spec is None and node.conversion == -1:
            return str(self.value(node.value, local))
        return str(self.value(node, local))

    def _made(self, node: ast.Call, local: Mapping[str, Any]) -> Any:
        called = _called(node)
        if called in ("tuple", "list") and len(node.args) == 1:
            return self.value(node.args[0], local)
        if called == "range" and not node.keywords:
            bounds = [self.value(argument, local) for argument in node.args]
            if len(bounds) in (1, 2) and all(isinstance(bound, int) and abs(bound) <= _MOST for bound in bounds):
                return tuple(range(*bounds))
            raise _UntoldError
        if called == "Array" and len(node.args) == 1:
            return f"array<{self.value(node.args[0], local)}>"
        if called in _RECIPES:
            given = {k.arg: self.value(k.value, local) for k in node.keywords if k.arg}
            positional = [self.value(argument, local) for argument in node.args]
            try:
                return _RECIPES[called](*positional, **given)
            except (TypeError, ValueError):
                raise _UntoldError from None
        if called in ("source", "FileSource"):
            return self._name_of(node, local)
        if called == "activity_fields" and len(node.args) == 1:
            return _activity(self.value(node.args[0], local))
        if called in _POSITIONAL:
            return _listed(called, self._given(node, local, _POSITIONAL[called]))
        if called in ("Entity", "Field", "FeatureView", "FeatureService"):
            given = self._given(node, local, ("name",))
            written = {str(keyword.arg) for keyword in node.keywords} | ({"name"} if node.args else set())
            return _Made(called, given, frozenset(written - given.keys()))
        raise _UntoldError

    def _name_of(self, node: ast.Call, local: Mapping[str, Any]) -> str:
        given = self._given(node, local, ("name",))
        if not isinstance(given.get("name"), str):
            raise _UntoldError
        return str(given["name"])

    def _given(self, node: ast.Call, local: Mapping[str, Any], positional: tuple[str, ...]) -> dict[str, Any]:
        """Return the arguments that are told; one that is not is left out."""
        if any(keyword.arg is None for keyword in node.keywords):
            raise _UntoldError
        nodes = dict(zip(positional, node.args, strict=False)) | {str(k.arg): k.value for k in node.keywords}
        found = {name: _quiet(lambda value=value: self.value(value, local)) for name, value in nodes.items()}  # type: ignore[misc]
        return {name: value for name, value in found.items() if value is not None}


def _activity(recipe: Any) -> tuple[_Made, ...]:
    """Return the fields of `features.definitions.common.activity_fields`."""
    if not isinstance(recipe, Activity):
        raise _UntoldError
    fields = {recipe.count: "int64", recipe.gap: "float64"}
    fields |= {recipe.name(part): recipe.dtype(part) for part in recipe.parts}
    return tuple(_Made("Field", {"name": name, "dtype": dtype}) for name, dtype in fields.items())


def _listed(helper: str, given: Mapping[str, Any]) -> _Made:
    """Return the field of `features.definitions.common.times_field` or `listed_field`."""
    if "name" not in given:
        raise _UntoldError
    times = helper == "times_field"
    dtype = "array<string>" if given.get("text") else "array<int64>"
    tags = {"kind": "elapsed" if times else "sequence"}
    if given.get("auxiliary", True) or times:
        tags["role"] = "auxiliary"
    return _Made("Field", {"name": given["name"], "dtype": dtype, "tags": tags})


def _quiet(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except (_UntoldError, RecursionError):
        return None


def _bindings(node: ast.stmt) -> Iterator[tuple[str, ast.expr | None]]:
    """Yield the names that a statement binds, each with its expression, or None where that is not told."""
    told: dict[str, ast.expr | None] = {}
    if isinstance(node, ast.Assign | ast.AnnAssign):
        value = node.value
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            parts: list[tuple[ast.expr, ast.expr | None]] = [(target, value)]
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
                parts = list(zip(target.elts, value.elts, strict=True))
            told |= {one.id: part for one, part in parts if isinstance(one, ast.Name)}
    yield from ((name, told.get(name)) for name in _stored(node))


def _stored(node: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement binds."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield node.name
        return
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            yield inner.id


def _called(node: ast.Call) -> str:
    return str(getattr(node.func, "id", getattr(node.func, "attr", "")))
