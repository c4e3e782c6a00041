"""Does the stage pass the files of the best candidate on, without the test split, and refuse one of other rows?"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from components.judge.choose_ranker.choice import FILE, Choice
from components.judge.choose_ranker.config import COMPONENT
from components.platform.errors import BadInputError
from components.platform.execute import StageRequest, execute
from components.platform.settings import Settings
from components.platform.store.records import MANIFEST
from components.testing.component import WINDOW, Tried, try_component

Try = Callable[..., Tried]


@pytest.fixture(scope="module")
def tried(training_set_dir: Path, model_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Try:
    """Run the component over candidates by stage, with a data set that has no test split."""
    home = tmp_path_factory.mktemp("home")

    def go(models: Mapping[str, str], rows: int | None = None) -> Tried:
        def example(folders: Mapping[str, Path]) -> Mapping[str, Any]:
            for stage, ranker in models.items():
                shutil.copytree(model_of(ranker), folders["models"] / stage)
            shutil.copytree(training_set_dir, folders["dataset"], dirs_exist_ok=True)
            for path in folders["dataset"].rglob("test*"):
                path.unlink() if path.is_file() else shutil.rmtree(path)
            if rows is not None:
                schema = folders["dataset"] / "schema.json"
                schema.write_text(json.dumps(json.loads(schema.read_text()) | {"rows": rows}))
            return {"resamples": 50, "most_resamples": 50, "provider": "cpu"}

        return try_component(COMPONENT, example, home)

    return go


def test_the_best_goes_on_byte_for_byte_and_the_page_names_all(tried: Try, model_of: Callable[[str], Path]) -> None:
    one = tried({"export_b": "lr", "export_a": "esmm"})
    found = Choice.model_validate_json((one.outputs["choice"] / FILE).read_bytes())
    assert {(c.stage, c.ranker) for c in found.candidates} == {("export_b", "lr"), ("export_a", "esmm")}
    values = [c.value for c in found.candidates]
    assert values == sorted(values, reverse=True) and found.candidates[1].resamples == 50  # type: ignore[type-var]  # defined
    source = model_of(found.chosen.ranker)
    published = {path.name for path in one.outputs["onnx_model"].iterdir()} - {MANIFEST}
    assert published == {path.name for path in source.iterdir()}
    for name in published:
        if (source / name).is_file():
            assert (one.outputs["onnx_model"] / name).read_bytes() == (source / name).read_bytes()
    page = (one.outputs["choice"] / "choice.html").read_text()
    assert "export_a" in page and "export_b" in page
    assert one.result.notes[0].startswith(f"{found.chosen.stage} of 2: mean auc of ")


def test_the_names_of_the_stages_are_part_of_the_key(tried: Try) -> None:
    one = tried({"export_b": "lr", "export_a": "esmm"})
    again, other = tried({"export_a": "esmm", "export_b": "lr"}), tried({"export_c": "lr", "export_a": "esmm"})
    assert again.result.key == one.result.key and again.result.cached
    assert other.result.key != one.result.key and not other.result.cached


def test_a_candidate_of_other_rows_is_refused(tried: Try) -> None:
    with pytest.raises(BadInputError, match="export_a was trained on another training set"):
        tried({"export_a": "lr"}, rows=7)


@pytest.mark.parametrize("name", ["models", "models.", "model.a", "dataset.a"])
def test_a_request_names_each_candidate_by_its_stage(tried: Try, name: str, tmp_path: Path) -> None:
    record = tried({"export_b": "lr", "export_a": "esmm"}).result.outputs["onnx_model"]
    request = StageRequest(component=COMPONENT.name, inputs={name: record}, window=WINDOW)
    with pytest.raises(BadInputError, match="input"):
        execute(request, Settings.at(tmp_path))
