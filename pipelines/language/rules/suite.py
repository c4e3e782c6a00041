"""Can the suite that a pipeline names be checked on the table that is wired to it? Nothing is run to find out.

What arguments an expectation takes is known to Great Expectations alone, whose import costs seconds; the stage says it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from components.data.validate_data.config import Config as Checks
from components.platform.errors import RankmillError, did_you_mean
from features import suites
from features.ground.yaml_text import quoted
from pipelines.language.problems import Finding
from pipelines.language.rules.draft import PipelineDraft

_IMPORTED = re.compile(r"^from (?:great_expectations\.expectations\.core)?\.(\w+) import", re.MULTILINE)
"""A line of the engine's list of expectations; each is registered under the name of its module."""


def suites_can_be_checked(draft: PipelineDraft) -> Iterator[Finding]:
    """A suite is well formed, its expectations exist, and the table has the columns that it is about."""
    folder = draft.path.parent.resolve()
    for name, stage, component in draft.stages():
        named = (draft.with_block(name) or {}).get("suite")
        if component.config is not Checks or not isinstance(named, str):
            continue
        here = ("stages", name, "with", "suite")
        if named.endswith(suites.SUFFIX) and named != stage.with_["suite"]:
            yield Finding(here, "a file is named in the pipeline itself, not by a param: write its path")
            continue
        path = _file(folder, named)
        if path is None:
            continue  # another rule says that there is none
        try:
            suite = suites.read(path)
        except RankmillError as error:
            yield Finding(here, str(error).replace(str(path), named, 1))
            continue
        table = draft.columns.get(name, {}).get("table")
        faults = [*_unknown(suite), *_absent(suite, table.known if table is not None and table.whole else None)]
        shown = named if named.endswith(suites.SUFFIX) else path.name
        for line, fault in sorted(faults):
            yield Finding(here, f"{shown}:{line}: {fault}")


def _file(folder: Path, named: str) -> Path | None:
    if not named.endswith(suites.SUFFIX):
        return suites.FOLDER / f"{named}{suites.SUFFIX}" if named in suites.names() else None
    path = (folder / named).resolve()
    return path if path.is_file() and path.is_relative_to(folder) and path.parent != folder else None


def _unknown(suite: suites.Suite) -> Iterator[tuple[int, str]]:
    """Yield line and sentence of each expectation and each moment that does not exist."""
    names = expectation_names()
    for rule in suite.contract.expectations:
        if names and rule.expect not in names:
            yield rule.line, f"no expectation {quoted(rule.expect)}{did_you_mean(rule.expect, names)}"
        for value in rule.arguments.values():
            if isinstance(value, dict) and set(value) == {"from"} and value["from"] not in suites.REFERENCES:
                named = str(value["from"])
                yield rule.line, f"no reference {quoted(named)}{did_you_mean(named, suites.REFERENCES)}"


def _absent(suite: suites.Suite, columns: Collection[str] | None) -> Iterator[tuple[int, str]]:
    """Yield line and sentence of the first column that the table lacks; a rule that only warns may name any."""
    if columns is None:
        return
    rules = [rule for rule in suite.contract.expectations if rule.action != "warn"]
    absent = [(name, rule.line) for rule in rules for name in rule.columns if name not in columns]
    if absent:
        first, line = absent[0]
        others = {name for name, _ in absent} - {first}
        more = f", nor {len(others)} more that the suite names" if others else ""
        yield line, f"the table has no column {quoted(first)}{more}{did_you_mean(first, columns)}"


@cache
def expectation_names() -> frozenset[str]:
    """Return the names of the engine's expectations, from the text of its package; empty where that does not tell."""
    spec = find_spec("great_expectations")
    for place in (spec.submodule_search_locations if spec else None) or ():
        listing = Path(place) / "expectations" / "core" / "__init__.py"
        if listing.is_file():
            return frozenset(_IMPORTED.findall(listing.read_text(encoding="utf-8")))
    return frozenset()
