"""Do the files that a pipeline names lie where they must, and do its Feast definitions hold what it asks for?

Feast definitions are Python. They are read here, never run: importing Feast would cost seconds, and checking a file
must not execute it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from components.platform.contract import ComponentSpec
from components.platform.errors import did_you_mean
from components.platform.paths import Marked, marked
from components.platform.settings import ROOT
from pipelines.language.places import PIPELINES, own_folder
from pipelines.language.problems import Finding, KeyPath, quoted
from pipelines.language.rules.definitions import unread
from pipelines.language.rules.pipeline import Draft
from pipelines.language.rules.suite import SUITE_RULES
from pipelines.language.spec import StageSpec

_SHIPPED = ROOT / "features" / "definitions"
_SERVICE, _DEFINITIONS = "feature_service", "definitions"


def name_is_free(draft: Draft) -> Iterator[Finding]:
    """A pipeline of your own folder has another name than those of this tree, since a DAG's name is unique."""
    path, own = draft.document.path, own_folder()
    name = draft.written().get("name")
    ours = own is not None and path.parent.resolve() == own.resolve()
    if ours and isinstance(name, str) and (PIPELINES / path.name).exists():
        yield Finding(("name",), f"{quoted(name)} is the name of a shipped pipeline: rename this one and its file")


def files_are_written_out(draft: Draft) -> Iterator[Finding]:
    """Which file is read stands in the pipeline, not in a form that anybody may fill in."""
    for where, found in _marked(draft):
        if "${" in found.text:
            yield Finding(where, "a file is named in the pipeline itself, not by a param: write its path")


def files_lie_beside_the_pipeline(draft: Draft) -> Iterator[Finding]:
    """A file of definitions or a suite is in the pipeline's folder or below it, is there, and can be read."""
    folder = draft.document.path.parent.resolve()
    for where, found in _marked(draft):
        path = folder / found.text
        if not found.mark.strict or path.suffix not in (".py", ".yaml") or "${" in found.text:
            continue
        if not path.resolve().is_relative_to(folder):
            yield Finding(where, f"{quoted(found.text)} lies outside the pipeline's folder: put the file beside it")
        elif path.suffix == ".yaml" and path.parent.resolve() == folder:
            advice = f"put it into a folder below, such as expectations/{path.name}"
            yield Finding(where, f"{quoted(found.text)} lies among the pipelines and would be read as one: {advice}")
        elif not path.is_file():
            files = [file.relative_to(folder).as_posix() for file in _alike(folder, path)]
            hint = did_you_mean(found.text, files) if files else ": write the file"
            yield Finding(where, f"there is no {quoted(found.text)} beside the pipeline{hint}")
        elif path.suffix == ".py" and (fault := _fault(path)):
            yield Finding(where, f"{found.text}:{fault}: correct the file")
        elif path.suffix == ".py" and where[-1] == _DEFINITIONS and (said := unread(path)):
            yield Finding(where, f"{found.text}:{said[0]}: {said[1]}")


def feature_services_exist(draft: Draft) -> Iterator[Finding]:
    """`feature_service:` names a service of the definitions, as far as their text tells."""
    # Which definitions are meant is not known where two stages disagree.
    doubtful = {finding.where[1] for finding in definitions_agree(draft)}

    def rule(name: str, stage: StageSpec, component: ComponentSpec) -> Iterator[Finding]:
        service, own = stage.with_.get(_SERVICE), stage.with_.get(_DEFINITIONS)
        if name in doubtful or not isinstance(service, str) or "${" in service:
            return
        if _SERVICE not in component.config.model_fields:
            return
        path = draft.document.path.parent / own if isinstance(own, str) else None
        known = _services((path,)) if path is not None else _services(tuple(sorted(_SHIPPED.glob("*.py"))))
        if known is not None and service not in known:
            place = own if path is not None else "features/definitions/"
            hint = did_you_mean(service, known) if known else ""
            yield Finding(("stages", name, "with", _SERVICE), f"{place} has no feature service {quoted(service)}{hint}")

    return draft.stages_with(rule)


def definitions_agree(draft: Draft) -> Iterator[Finding]:
    """Feature tables are joined with the definitions and the service that they were made with."""
    for wire in draft.wires():
        made, read = draft.component(wire.producer), draft.component(wire.stage)
        if made is None or read is None or wire.producer not in draft.spec.stages:
            continue
        for key in (_DEFINITIONS, _SERVICE):
            if key not in made.config.model_fields or key not in read.config.model_fields:
                continue
            theirs, ours = (draft.spec.stages[stage].with_.get(key) for stage in (wire.producer, wire.stage))
            if theirs != ours and (key == _DEFINITIONS or (theirs and ours)):
                where: KeyPath = ("stages", wire.stage, "with", key)
                where = where if ours is not None else where[:3]
                said = f"{key}: {theirs}" if theirs is not None else f"no {key}"
                yield Finding(where, f"stage {quoted(wire.producer)}, which this one reads, has {said}: write the same")


def _marked(draft: Draft) -> Iterator[tuple[KeyPath, Marked]]:
    for name, stage in draft.spec.stages.items():
        if (component := draft.component(name)) is not None:
            for found in marked(component.config, stage.with_):
                yield ("stages", name, "with", *found.where), found


def _alike(folder: Path, path: Path) -> Iterator[Path]:
    """Yield the files that may have been meant: Python beside the pipeline, suites in the folder that was named."""
    return folder.glob("*.py") if path.suffix == ".py" else path.parent.resolve().glob("*.yaml")


def _fault(path: Path) -> str | None:
    """Return line and words of what makes a file no Python, or None."""
    try:
        ast.parse(path.read_bytes())
    except SyntaxError as error:
        return f"{error.lineno or 1}: {error.msg}"
    except (ValueError, RecursionError) as error:
        return f"1: {error}"
    except OSError as error:
        return f"1: {error.strerror}"
    return None


def _services(paths: tuple[Path, ...]) -> frozenset[str] | None:
    """Return the names of the feature services that files define, or None when the text does not tell all of them."""
    names: set[str] = set()
    for path in paths:
        try:
            found = _services_of(path.read_bytes())
        except OSError:
            return None
        if found is None:
            return None
        names |= found
    return frozenset(names)


@cache
def _services_of(text: bytes) -> frozenset[str] | None:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return None
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "FeatureService":
            given = [keyword.value for keyword in node.keywords if keyword.arg == "name"] or node.args[:1]
            if len(given) != 1 or not isinstance(given[0], ast.Constant) or not isinstance(given[0].value, str):
                return None
            names.append(given[0].value)
    return frozenset(names)


FILE_RULES: tuple[Callable[[Draft], Iterator[Finding]], ...] = (
    name_is_free,
    files_are_written_out,
    files_lie_beside_the_pipeline,
    feature_services_exist,
    definitions_agree,
    *SUITE_RULES,
)
"""Every rule about files beside a pipeline, in the order in which a reader would check by hand."""
