"""Does a suite beside the tutorial's pipeline stop and sort its rows, and does a changed suite run the stage again?"""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlparse

import pyarrow.parquet as pq
import pytest

from components.platform.errors import ContractViolationError
from components.platform.execute import StageRequest, StageResult, execute
from components.platform.settings import ROOT, Settings
from features.declaration import Window
from pipelines.language.check import load_plan
from pipelines.language.problems import PipelineError
from pipelines.language.rules.suite import expectation_names

pytestmark = pytest.mark.engine

PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
FILES = re.compile(r"^```(?:yaml|python)\n# ([\w./]+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
ROWS = 12_000
WINDOW = Window(start=datetime(2026, 1, 1, tzinfo=UTC), end=datetime(2026, 1, 15, tzinfo=UTC))


class Shop:
    """The tutorial's folder, and the first two stages of its pipeline."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder, self.suite = folder, folder / "expectations" / "hotel_search_events.yaml"
        self.settings = Settings.at(home)
        for name, text in FILES.findall(PAGE):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        subprocess.run([sys.executable, "hotel_search_data.py"], cwd=folder, check=True)

    def change(self, file: Path, old: str, new: str) -> None:
        text = file.read_text(encoding="utf-8")
        assert text.count(old) == 1
        file.write_text(text.replace(old, new), encoding="utf-8")

    def check(self) -> StageResult:
        events = self.stage("ingest")
        return self.stage("contract", table=events)

    def stage(self, name: str, **given: StageResult) -> StageResult:
        (stage,) = [stage for stage in load_plan(self.folder / "hotel_search.yaml").stages if stage.name == name]
        request = StageRequest(
            component=stage.component.name,
            config=dict(stage.config),
            inputs={port: result.outputs["events"] for port, result in given.items()},
            window=WINDOW,
            stage=name,
            pipeline="hotel_search",
        )
        return execute(request, self.settings)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"), tmp_path_factory.mktemp("home"))


def rows(result: StageResult, output: str, file: str) -> int:
    return pq.read_table(Path(urlparse(result.outputs[output].uri).path) / file).num_rows


def test_the_suite_of_the_tutorial_holds_and_its_content_is_part_of_the_key(shop: Shop) -> None:
    first = shop.check()
    assert rows(first, "table", "events.parquet") == ROWS
    assert shop.check().cached

    was = shop.suite.read_text(encoding="utf-8")
    shop.change(shop.suite, "max_value: 5", "max_value: 4")  # only warns
    second = shop.check()
    warned = "warning: expect_column_values_to_be_between on 'stars'"
    assert not second.cached and any(warned in note for note in second.notes)

    shop.suite.write_text(was, encoding="utf-8")
    assert shop.check().cached


def test_broken_rows_go_aside_until_they_are_too_many(shop: Shop) -> None:
    was = shop.suite.read_text(encoding="utf-8")
    shop.change(shop.suite, "column: price, min_value: 0", "column: price, min_value: 55")
    with pytest.raises(ContractViolationError) as caught:
        shop.check()
    # The sentence leads to the rule in the user's own file.
    assert str(caught.value).endswith(f"or the rule at {shop.suite}:12")

    shop.change(shop.suite, "max_quarantined: 0.001", "max_quarantined: 0.5")
    result = shop.check()
    aside = rows(result, "quarantine", "rows.parquet")
    assert 500 < aside < ROWS / 2 and aside + rows(result, "table", "events.parquet") == ROWS
    assert aside % 10 == 0, "a search goes aside with everything that it showed"
    shop.suite.write_text(was, encoding="utf-8")


def test_validate_says_what_the_tutorial_shows_for_a_column_that_is_not_there(shop: Shop) -> None:
    was = shop.suite.read_text(encoding="utf-8")
    shop.change(shop.suite, "column: price", "column: prise")
    with pytest.raises(PipelineError) as caught:
        load_plan(shop.folder / "hotel_search.yaml")
    (problem,) = caught.value.problems
    assert f"`{problem.message}`" in PAGE
    shop.suite.write_text(was, encoding="utf-8")


def test_the_names_that_validate_knows_are_the_engines() -> None:
    import great_expectations  # noqa: F401  # fills the registry
    from great_expectations.expectations import registry

    registered = set(registry.list_registered_expectation_implementations())
    assert len(registered) > 50 and registered <= expectation_names()
    assert len(expectation_names() - registered) <= 1
