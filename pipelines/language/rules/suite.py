"""Can the suite that a pipeline names be checked on the table that is wired to it? Nothing is run to find out.

What arguments an expectation takes is known to Great Expectations alone, whose import costs seconds; the stage says it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from components.data.validate_data.config import Config as Checks
from components.platform.contract import ComponentSpec
from components.platform.errors import RankmillError, did_you_mean
from features import suites
from pipelines.language.columns import columns_of
from pipelines.language.params import misfit, substitute
from pipelines.language.problems import Finding, quoted
from pipelines.language.rules.pipeline import Draft
from pipelines.language.spec import StageSpec

_IMPORTED = re.compile(r"^from (?:great_expectations\.expectations\.core)?\.(\w+) import", re.MULTILINE)
"""A line of the engine's list of expectations; each is registered under the name of its module."""


def suites_can_be_checked(draft: Draft) -> Iterator[Finding]:
    """A suite is well formed, its expectations exist, and the table has the columns that it is about."""
    folder = draft.document.path.parent.resolve()

    def rule(name: str, stage: StageSpec, component: ComponentSpec) -> Iterator[Finding]:
        named = substitute(stage.with_, _usual(draft)).get("suite")
        if component.config is not Checks or not isinstance(named, str):
            return
        if named.endswith(suites.SUFFIX) and named != stage.with_["suite"]:
            said = "a file is named in the pipeline itself, not by a param: write its path"
            yield Finding(("stages", name, "with", "suite"), said)
            return
        path = _file(folder, named)
        if path is None:
            return  # another rule says that there is none
        try:
            suite = suites.read(path)
        except RankmillError as error:
            yield Finding(("stages", name, "with", "suite"), str(error).replace(str(path), named, 1))
            return
        table = columns_of(draft).get(name, {}).get("table")
        faults = [*_unknown(suite), *_absent(suite, table.known if table is not None and table.whole else None)]
        shown = named if named.endswith(suites.SUFFIX) else path.name
        for line, fault in sorted(faults):
            yield Finding(("stages", name, "with", "suite"), f"{shown}:{line}: {fault}")

    return draft.stages_with(rule)


def _file(folder: Path, named: str) -> Path | None:
    if not named.endswith(suites.SUFFIX):
        return suites.FOLDER / f"{named}{suites.SUFFIX}" if named in suites.names() else None
    path = (folder / named).resolve()
    return path if path.is_file() and path.is_relative_to(folder) and path.parent != folder else None


def _unknown(suite: suites.Suite) -> Iterator[tuple[int, str]]:
    """Yield line and sentence of each expectation and each moment that does not exist."""
    known = expectation_names()
    for rule in suite.contract.expectations:
        if known and rule.expect not in known:
            yield rule.line, f"no expectation {quoted(rule.expect)}{did_you_mean(rule.expect, known)}"
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


def _usual(draft: Draft) -> dict[str, Any]:
    return {name: param.default for name, param in draft.spec.params.items() if not misfit(param, param.default)}


@cache
def expectation_names() -> frozenset[str]:
    """Return the names of the engine's expectations, from the text of its package; empty where that does not tell."""
    spec = find_spec("great_expectations")
    for place in (spec.submodule_search_locations if spec else None) or ():
        listing = Path(place) / "expectations" / "core" / "__init__.py"
        if listing.is_file():
            return frozenset(_IMPORTED.findall(listing.read_text(encoding="utf-8")))
    return frozenset()


SUITE_RULES: tuple[Callable[[Draft], Iterator[Finding]], ...] = (suites_can_be_checked,)
"""Every rule about suites of expectations."""
