"""Do the files that belong to a pipeline lie where they must? Its own, and those that its stages name.

Python files are read here, never run: importing Feast would cost seconds, and checking a file must not execute it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from components.platform.errors import did_you_mean
from components.platform.paths import Marked, marked
from features.ground.yaml_text import KeyPath, quoted
from pipelines.language.load import PIPELINES, own_folder
from pipelines.language.problems import Finding
from pipelines.language.rules.definitions import DEFINITIONS, definitions_agree, feature_services_exist, unread
from pipelines.language.rules.draft import PipelineDraft, Rule
from pipelines.language.rules.suite import suites_can_be_checked


def named_like_its_file(draft: PipelineDraft) -> Iterator[Finding]:
    """The file of a pipeline carries its name, so that either leads to the other."""
    return draft.misnamed("pipeline")


def ends_with_yaml(draft: PipelineDraft) -> Iterator[Finding]:
    """Pipelines are found by the end of their file's name."""
    name = draft.path.name
    if name.endswith(".yml"):
        yield Finding(("name",), f"{name} is found by no command and no scheduler: rename it to {name[:-4]}.yaml")


def name_is_free(draft: PipelineDraft) -> Iterator[Finding]:
    """A pipeline of your own folder has another name than those of this tree, since a DAG's name is unique."""
    path, own = draft.path, own_folder()
    name = draft.at("name")
    ours = own is not None and path.parent.resolve() == own.resolve()
    if ours and isinstance(name, str) and (PIPELINES / path.name).exists():
        yield Finding(("name",), f"{quoted(name)} is the name of a shipped pipeline: rename this one and its file")


def files_are_written_out(draft: PipelineDraft) -> Iterator[Finding]:
    """Which file is read stands in the pipeline, not in a form that anybody may fill in."""
    for where, named in _marked(draft):
        if "${" in named.text:
            yield Finding(where, "a file is named in the pipeline itself, not by a param: write its path")


def files_lie_beside_the_pipeline(draft: PipelineDraft) -> Iterator[Finding]:
    """A file of definitions or a suite is in the pipeline's folder or below it, is there, and can be read."""
    folder = draft.path.parent.resolve()
    for where, named in _marked(draft):
        path = folder / named.text
        if not named.mark.strict or path.suffix not in (".py", ".yaml") or "${" in named.text:
            continue
        if not path.resolve().is_relative_to(folder):
            yield Finding(where, f"{quoted(named.text)} lies outside the pipeline's folder: put the file beside it")
        elif path.suffix == ".yaml" and path.parent.resolve() == folder:
            advice = f"put it into a folder below, such as expectations/{path.name}"
            yield Finding(where, f"{quoted(named.text)} lies among the pipelines and would be read as one: {advice}")
        elif not path.is_file():
            files = [file.relative_to(folder).as_posix() for file in _alike(folder, path)]
            hint = did_you_mean(named.text, files) if files else ": write the file"
            yield Finding(where, f"there is no {quoted(named.text)} beside the pipeline{hint}")
        elif path.suffix == ".py" and (fault := _fault(path)):
            yield Finding(where, f"{named.text}:{fault}: correct the file")
        elif path.suffix == ".py" and where[-1] == DEFINITIONS and (said := unread(path)):
            yield Finding(where, f"{named.text}:{said[0]}: {said[1]}")


def _marked(draft: PipelineDraft) -> Iterator[tuple[KeyPath, Marked]]:
    for name, stage, component in draft.stages():
        for named in marked(component.config, stage.with_):
            yield ("stages", name, "with", *named.where), named


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


OWN_FILE_RULES: tuple[Rule, ...] = (named_like_its_file, ends_with_yaml, name_is_free)
"""Every rule about the file of a pipeline."""
NAMED_FILE_RULES: tuple[Rule, ...] = (
    files_are_written_out,
    files_lie_beside_the_pipeline,
    feature_services_exist,
    definitions_agree,
    suites_can_be_checked,
)
"""Every rule about files that stages name, in the order in which a reader would check by hand."""
