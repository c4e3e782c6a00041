"""Does a matrix make the stages that it says, wired to each other, with each value told where it is written?"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from components.platform.errors import BadInputError
from pipelines.language.check import load_plan
from pipelines.language.load import read
from pipelines.language.matrix import MOST_STAGES
from pipelines.language.plan import Plan, Selection, due, left_out, select, skipped, skips
from pipelines.language.problems import PipelineError
from pipelines.show.render import as_json
from pipelines.show.resolved import resolved

PATH = Path(__file__).resolve().parents[3] / "golden" / "accepted" / "matrix.yaml"
RANKERS = ("esmm_0", "esmm_1", "dnn_0", "dnn_1")


@pytest.fixture(scope="module")
def plan() -> Plan:
    return load_plan(PATH)


def line_of(text: str) -> int:
    lines = PATH.read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def test_a_stage_and_what_reads_it_are_there_for_each_combination(plan: Plan) -> None:
    names = [stage.name for stage in plan.stages]
    assert sum(name.startswith("dataset") for name in names) == 2
    for stage in ("train", "export"):
        made = {f"{stage}_{split}_{ranker}" for split in ("late", "any") for ranker in RANKERS}
        assert {name for name in names if name.startswith(stage)} == made == {*plan.meant(stage)}
    assert "watched" in names and "train" not in names
    train = plan.stage("train_any_dnn_1")
    assert train.config == {"ranker": {"name": "dnn", "dropout": "${params.rate}"}, "seed": 1}
    assert (train.group, plan.stage("dataset_any").group, train.written) == ("train", "dataset", "train")
    assert plan.stage("export_any_dnn_1").group == "graphs"


def test_a_reader_is_wired_to_those_that_share_its_values(plan: Plan) -> None:
    for split in ("late", "any"):
        for ranker in RANKERS:
            export = plan.stage(f"export_{split}_{ranker}")
            wires = {wire.input: wire.stage for wire in export.wires}
            assert wires == {"ranker": f"train_{split}_{ranker}", "dataset": f"dataset_{split}"}
    assert plan.stage("watched").upstream == tuple(sorted(["ingest", *plan.meant("train")]))


def test_an_input_of_many_gathers_those_that_share_the_values_of_its_stage(plan: Plan) -> None:
    assert plan.meant("choose") == ("choose_late", "choose_any")
    for split in ("late", "any"):
        choose = plan.stage(f"choose_{split}")
        models = [(wire.stage, wire.key) for wire in choose.wires if wire.input == "models"]
        exports = sorted(f"export_{split}_{ranker}" for ranker in RANKERS)
        assert models == [(name, f"models.{name}") for name in exports]
        assert [wire.key for wire in choose.wires if wire.input == "dataset"] == ["dataset"]
        assert {wire.stage for wire in plan.stage(f"evaluate_{split}").wires} == {choose.name, f"dataset_{split}"}


def test_a_verdict_decides_about_the_stage_that_shares_its_values(plan: Plan) -> None:
    for split in ("late", "any"):
        alarmed = plan.stage(f"alarmed_{split}")
        assert alarmed.verdict == (f"drift_{split}", "alarm") and f"drift_{split}" in alarmed.upstream


def test_each_made_stage_is_told_at_the_line_of_the_one_that_is_written(plan: Plan) -> None:
    assert [place.line for place in plan.stage("train_late_dnn_0").places] == [line_of("  train:")]


def test_the_resolved_file_means_the_same_and_names_the_line_of_each_value(plan: Plan, tmp_path: Path) -> None:
    text = resolved(read(PATH))
    assert f"name: dnn  # matrix.yaml:{line_of('ranker: {esmm')}" in text and "matrix:" not in text
    (tmp_path / "matrix.yaml").write_text(re.sub(r"  # \S+:\d+$", "", text, flags=re.MULTILINE))
    alone = load_plan(tmp_path / "matrix.yaml")
    told, own = as_json(alone), as_json(plan)
    for one in (told, own):
        for stage in one["stages"]:
            del stage["written"]
    assert told == own


def test_the_name_in_the_file_means_all_that_were_made_of_it(plan: Plan) -> None:
    part = select(plan, Selection(to="train", without=("dataset_late",)))
    assert {stage.name for stage in part.stages if stage.written == "train"} == {f"train_any_{one}" for one in RANKERS}
    assert "export_any_dnn_0" in left_out(plan, Selection(to="train"))
    gone = select(plan, Selection(without=("train",)))
    assert {stage.name for stage in gone.stages} == {
        "ingest", "contract", "features", "dataset_late", "dataset_any", "drift_late", "drift_any",
    }  # fmt: skip
    with pytest.raises(BadInputError, match="--to export and --except train exclude each other, since"):
        select(plan, Selection(to="export", without=("train",)))
    only = select(plan, Selection("only", "export"))
    assert {stage.name for stage in only.stages if stage.start == "anew"} == {*plan.meant("export")}


def test_a_false_condition_skips_what_a_matrix_made_and_all_that_need_it(plan: Plan) -> None:
    gone = skipped(plan, {"full": False})
    made = {name for stage in ("export", "choose", "evaluate", "alarmed") for name in plan.meant(stage)}
    assert {*gone} == made and {*gone.values()} == {"full"}
    assert {stage.name for stage in due(plan, {"full": False}).stages} == {stage.name for stage in plan.stages} - made
    assert due(plan, {"full": True}) is plan and skips(plan, {"full": True}) == ""
    assert skips(plan, {"full": False}).startswith("full is false and skips export_")
    with pytest.raises(BadInputError, match=r"full is false and skips .*choose_late, and nothing is left to run"):
        due(select(plan, Selection("only", "choose_late")), {"full": False})


def test_a_value_of_a_parent_is_told_in_the_file_that_holds_it(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    base = PATH.read_text().replace("dropout: ", "dropot: ")
    (tmp_path / "shared" / "base.yaml").write_text(base)
    own = "extends: shared/base.yaml\nname: child\nstages: {train: {matrix: {ranker: {esmm: {name: esm}}}}}\n"
    path = tmp_path / "child.yaml"
    path.write_text(own)
    with pytest.raises(PipelineError) as caught:
        load_plan(path)
    places = {(Path(problem.path).name, problem.line) for problem in caught.value.problems}
    assert {("base.yaml", line_of("ranker: {esmm")), ("child.yaml", 3)} <= places
    (tmp_path / "shared" / "base.yaml").write_text(PATH.read_text())
    path.write_text(
        "extends: shared/base.yaml\nname: child\nstages: {train: {matrix: {seed: [7], ranker: {esmm: null}}}}\n"
    )
    assert load_plan(path).meant("train") == ("train_late_dnn_7", "train_any_dnn_7")


def test_as_many_stages_as_allowed_are_made(tmp_path: Path) -> None:
    text = (PATH.parents[1] / "errors" / "matrix_makes_too_many.yaml").read_text().replace(", 32]", "]")
    path = tmp_path / "matrix_makes_too_many.yaml"
    path.write_text(text)
    plan = load_plan(path)
    assert len(plan.meant("train")) + len(plan.meant("export")) == MOST_STAGES
