"""Does a pipeline take from others what they say, and is each mistake told in the file that holds it?"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.platform.errors import BadInputError
from features.ground import yaml_text
from features.ground.yaml_text import Words
from pipelines.language.check import load_plan
from pipelines.language.document import Document
from pipelines.language.extend import DEFAULTS, KIND_KEYS
from pipelines.language.load import (
    OWN,
    PIPELINES,
    hidden_files,
    pipeline_file,
    pipeline_names,
    pipeline_path,
    pipelines_in,
    read,
)
from pipelines.language.problems import PipelineError
from pipelines.show.dag_doc import stage_doc
from pipelines.show.render import as_json
from pipelines.show.resolved import flow, resolved
from tests.golden_files import agreed

PARENT = """\
name: base
tags: [x, y]
schedule: "0 2 * * *"
window: {days: 7}
params:
  seed: {type: integer, default: 0}
defaults: {retries: 2, timeout: 1h}
stages:
  ingest:
    uses: ingest_table
    with:
      files: a.csv
      user: u
      item: i
      timestamp: t
      feedback: {click: c}
  contract:
    uses: validate_data
    in: {table: ingest.events}
    with: {suite: table_events}
"""
CHILD = """\
name: child
extends: base.yaml
tags: [z]
params: {seed: null}
defaults: {timeout: 2h}
stages:
  ingest:
    with: {files: c.csv, feedback: {order: o}}
"""


def written(folder: Path, **files: str) -> Document:
    """Write files, `child.yaml` among them, and read that one."""
    for name, text in {"base": PARENT, "child": CHILD, **files}.items():
        file = folder / f"{name.replace('__', '/')}.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    return read(folder / "child.yaml")


def told(folder: Path) -> list[str]:
    """Return what is wrong with `child.yaml`, each as `file:line: message`."""
    with pytest.raises(PipelineError) as caught:
        load_plan(folder / "child.yaml")
    return [f"{Path(one.path).name}:{one.line}: {one.message}" for one in caught.value.problems]


def test_blocks_are_merged_lists_replaced_and_null_removes(tmp_path: Path) -> None:
    value = written(tmp_path).value
    assert value["name"] == "child" and "extends" not in value
    assert value["params"] == {} and value["defaults"] == {"retries": 2, "timeout": "2h"}
    ingest = value["stages"]["ingest"]["with"]
    assert value["tags"] == ["z"]
    assert (ingest["files"], ingest["feedback"], ingest["user"]) == ("c.csv", {"click": "c", "order": "o"}, "u")
    assert [*value["stages"]] == ["ingest", "contract"] and value["schedule"] == "0 2 * * *"
    dropped = written(tmp_path, child=CHILD + "  contract: null\n").value
    assert [*dropped["stages"]] == ["ingest"]


def test_null_is_a_value_inside_with_and_without_removes(tmp_path: Path) -> None:
    block = "name: child\nextends: base.yaml\nstages:\n  ingest:\n    without: [files, feedback.click]\n"
    ingest = written(tmp_path, child=block + "    with: {user: null}\n").value["stages"]["ingest"]
    assert ingest["with"] == {"user": None, "item": "i", "timestamp": "t", "feedback": {}}
    assert "without" not in ingest


def test_another_component_and_another_kind_have_keys_of_their_own(tmp_path: Path) -> None:
    base = "name: base\nstages:\n  train:\n    uses: train_ranker\n    in: {dataset: a.b}\n    retries: 3\n"
    base += "    with: {ranker: {name: mmoe, experts: 4}, split: {by: time, train: 0.9}, epochs: 2}\n"
    child = "name: child\nextends: base.yaml\nstages:\n  train:\n"
    kinds = "    with: {ranker: {name: esmm}, split: {by: time, test: 0.1}}\n"
    one = written(tmp_path, base=base, child=child + "    uses: train_ranker\n" + kinds).value["stages"]["train"]
    assert one["with"] == {"ranker": {"name": "esmm"}, "split": {"by": "time", "train": 0.9, "test": 0.1}, "epochs": 2}
    assert one["retries"] == 3
    other = written(tmp_path, child=child + "    uses: continue_ranker\n").value["stages"]["train"]
    assert other == {"uses": "continue_ranker"}


def test_nearer_files_win_and_the_folder_comes_last(tmp_path: Path) -> None:
    folder = "owner: team\ntags: [all]\nschedule: {timezone: Europe/Berlin}\ndefaults: {retries: 9, retry_delay: 1m}\n"
    middle = "extends: base.yaml\ntags: [middle]\ndefaults: {timeout: 3h}\nstages: {contract: {retries: 1}}\n"
    child = "name: child\nextends: shared/middle.yaml\nstages: {ingest: {with: {files: c.csv}}}\nparams: {seed: null}\n"
    document = written(tmp_path, defaults=folder, shared__middle=middle, child=child)
    plan = load_plan(tmp_path / "child.yaml")
    spec = plan.spec
    assert (spec.owner, spec.tags) == ("team", ("middle",))
    assert document.value["defaults"] == {"retries": 2, "retry_delay": "1m", "timeout": "3h"}
    assert document.value["schedule"] == {"cron": "0 2 * * *", "timezone": "Europe/Berlin"}
    assert [path.name for path in plan.files] == ["child.yaml", "middle.yaml", "base.yaml", "defaults.yaml"]
    places = {stage.name: [(at.path.name, at.line) for at in stage.places] for stage in plan.stages}
    assert places == {
        "ingest": [("child.yaml", 3), ("base.yaml", 9)],
        "contract": [("middle.yaml", 4), ("base.yaml", 17)],
    }
    doc = stage_doc(plan.stage("contract"))
    assert "retries: 1" in doc and "suite: table_events" in doc
    assert {*pipelines_in(tmp_path)} == {"base", "child"}


def test_a_schedule_keeps_its_time_zone_and_none_gets_none(tmp_path: Path) -> None:
    base = PARENT.replace('"0 2 * * *"', '{cron: "0 2 * * *", timezone: Asia/Tokyo}')
    zoned = 'schedule: "0 5 * * *"\n'
    assert written(tmp_path, base=base, child=CHILD + zoned).value["schedule"] == {
        "cron": "0 5 * * *", "timezone": "Asia/Tokyo",
    }  # fmt: skip
    (tmp_path / DEFAULTS).write_text("schedule: {timezone: Europe/Berlin}\n")
    assert written(tmp_path, base=base).value["schedule"]["timezone"] == "Asia/Tokyo"
    assert "schedule" not in written(tmp_path, child=CHILD + "schedule: null\n").value
    by_asset = written(tmp_path, child=CHILD + "schedule: {assets: [base.contract.table], partitioned: true}\n")
    assert by_asset.value["schedule"]["cron"] == "0 2 * * *"  # a block changes the keys that it names
    assert told(tmp_path)[0].startswith("child.yaml:9: a partitioned schedule has a cron expression or assets")


def test_a_mistake_is_told_in_the_file_and_line_that_hold_it(tmp_path: Path) -> None:
    written(tmp_path, base=PARENT.replace("user: u", "usr: u"), child=CHILD.replace("order: o", "order: 3"))
    found = told(tmp_path)
    assert [line.partition(": ")[0] for line in found] == ["base.yaml:13", "child.yaml:8"]
    assert "unknown key 'usr' (did you mean 'user'?) (taken by child.yaml)" in found[0] and "order must be" in found[1]
    written(tmp_path, child=CHILD + "  contract: null\n  ingest2: {retries: 1}\n")
    assert "key 'uses' is missing in 'ingest2'" in told(tmp_path)[0]
    written(tmp_path, child=CHILD.replace("  ingest:", "  ingest: null\n  other:\n    uses: ingest_table"))
    assert "base.yaml:19: no stage 'ingest' (did you mean" not in told(tmp_path)[0]
    assert any(line.startswith("base.yaml:19: no stage 'ingest'") for line in told(tmp_path))


def test_a_cron_expression_is_told_where_it_stands_in_either_form(tmp_path: Path) -> None:
    zoned = PARENT.replace('"0 2 * * *"', '{cron: "0 2 * * *", timezone: Asia/Tokyo}')
    written(tmp_path, base=zoned, child=CHILD + 'schedule: "0 25 * * *"\n')
    assert [line.partition(": ")[0] for line in told(tmp_path)] == ["child.yaml:9"]
    wrong = PARENT.replace("0 2 *", "0 25 *")
    written(tmp_path, base=wrong, child=CHILD + "schedule: {partitioned: true}\n")
    assert [line.partition(": ")[0] for line in told(tmp_path)] == ["base.yaml:3"]
    written(tmp_path, base=wrong, defaults="schedule: {timezone: Asia/Tokyo}\n")
    assert [line.partition(": ")[0] for line in told(tmp_path)] == ["base.yaml:3"]


def test_a_key_that_is_not_taken_may_be_said_anew(tmp_path: Path) -> None:
    again = CHILD.replace("    with: {files: c.csv", "    without: [feedback]\n    with: {files: c.csv")
    document = written(tmp_path, child=again)
    assert document.value["stages"]["ingest"]["with"]["feedback"] == {"order": "o"}
    written(tmp_path, child=again.replace("files: c.csv, feedback: {order: o}", "feedback: 3"))
    assert [line.partition(": ")[0] for line in told(tmp_path)] == ["child.yaml:9"]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"child": CHILD.replace("base", "none")}, "child.yaml:2: there is no file"),
        (
            {"child": CHILD.replace("base.yaml", "../base.yaml")},
            "beside the pipeline or below its folder, not '../base",
        ),
        ({"child": CHILD.replace("base.yaml", "base.yml")}, "child.yaml:2: extends must be a .yaml file"),
        ({"child": CHILD.replace("base", "child")}, "in a circle (child.yaml → child.yaml): remove one extends"),
        (
            {"base": "extends: shared/x.yaml\n", "shared__x": "extends: child.yaml\n"},
            "x.yaml:1: pipelines extend each other in a circle (child.yaml → base.yaml → shared/x.yaml → child.yaml)",
        ),
        ({"base": "- a\n"}, "base.yaml:1: the file must hold keys of a pipeline"),
        ({"base": "stages: {a: *x}\n"}, "base.yaml:1: aliases are not part of the language"),
        ({"base": "a: [1\n"}, "base.yaml:1: a bracket is not closed"),
        ({"child": CHILD.replace("base.yaml", "3")}, "child.yaml:2: extends must be a text, not 3"),
        (
            {"child": CHILD + "  contrct: null\n"},
            "no parent has a stage 'contrct' to remove (did you mean 'contract'?)",
        ),
        (
            {"child": CHILD.replace("with:", "without: [fils]\n    with:")},
            "child.yaml:8: stage 'ingest' takes no 'fils' from another file (did you mean 'files'?)",
        ),
        ({"defaults": "ownr: x\n"}, "defaults.yaml:1: unknown key 'ownr' (did you mean 'owner'?)"),
        ({"defaults": "stages: {}\n"}, "defaults.yaml:1: unknown key 'stages'"),
        ({"defaults": 'schedule: "0 2 * * *"\n'}, "defaults.yaml:1: schedule must be a block of keys"),
        ({"defaults": "schedule: {timezone: Europe/Berlim}\n"}, "must be a time zone such as Europe/Berlin (did you"),
        ({"defaults": "defaults: {retries: 99}\n"}, "defaults.yaml:1: retries must be at most 20, not 99"),
    ],
)
def test_what_cannot_be_taken_is_told_in_one_sentence(tmp_path: Path, files: dict[str, str], words: str) -> None:
    written(tmp_path, **files)
    found = told(tmp_path)
    assert words in "\n".join(found)
    if "extends must be a text" not in words:
        assert len(found) == 1


def test_without_names_what_a_stage_takes_from_a_file(tmp_path: Path) -> None:
    log = "files: a.csv\nuser: u\nitem: i\ntimestamp: t\nfeedback: {click: c}\nsource: ml-100k\n"
    child = "name: child\nwindow: {days: 1}\nstages:\n"
    child += "  ingest: {uses: ingest_table, from: shared/l.yaml, without: [source]}\n"
    document = written(tmp_path, shared__l=log, child=child)
    assert "source" not in document.value["stages"]["ingest"]["with"]
    assert load_plan(tmp_path / "child.yaml").spec.stages["ingest"].without == ()


def test_who_is_told_is_shared_by_a_folder_and_changed_by_a_pipeline(tmp_path: Path) -> None:
    folder = """\
notify:
  failure: {slack: {connection: ops}, webhook: {connection: hook}}
  refusal: {slack: {connection: ops}}
  promotion: {slack: {connection: ops}}
  deadline: {slack: {connection: ops}}
"""
    child = f"{CHILD}notify: {{failure: {{slack: null, email: {{connection: m, to: [a@b.c]}}}}, refusal: null}}\n"
    written(tmp_path, defaults=folder, child=child)
    notify = load_plan(tmp_path / "child.yaml").spec.notify
    # That no stage promotes and no deadline is missed is no mistake of what a folder says to all.
    assert notify is not None and notify.events == ("failure", "promotion", "deadline")
    assert [str(one) for one in notify.targets("failure")] == ["email (m)", "webhook (hook)"]
    written(
        tmp_path, child=f"{child}deadline: null\n".replace("refusal: null", "promotion: {webhook: {connection: h}}")
    )
    assert ["child.yaml" in one and "nobody can be told of it" in one for one in told(tmp_path)] == [True]


def test_no_line_that_may_hold_a_secret_is_shown(tmp_path: Path) -> None:
    secret = "notify:\n  failure:\n    webhook: {connection: 'https://hooks.example.com/T0/s3cret'}\n"
    for files in ({"defaults": secret}, {"child": CHILD + secret}, {"base": PARENT + secret}):
        written(tmp_path, **{"defaults": "", "base": PARENT, "child": CHILD} | files)
        with pytest.raises(PipelineError) as caught:
            load_plan(tmp_path / "child.yaml")
        assert "s3cret" not in str(caught.value) and "a connection is named by its id" in str(caught.value)
    written(tmp_path, defaults="", base=PARENT, child=CHILD.replace("files: c.csv", "fils: https://example.com/c.csv"))
    with pytest.raises(PipelineError, match=r"example\.com/c\.csv"):
        load_plan(tmp_path / "child.yaml")


def test_an_empty_file_of_defaults_gives_none_and_is_no_pipeline(tmp_path: Path) -> None:
    written(
        tmp_path, defaults="", child=PARENT.replace("base", "child").replace("  seed: {type: integer, default: 0}", "")
    )
    (tmp_path / "child.yaml").write_text((tmp_path / "child.yaml").read_text().replace("params:\n\n", ""))
    assert load_plan(tmp_path / "child.yaml").spec.owner == "rankmill"
    with pytest.raises(BadInputError, match="what the pipelines of its folder share"):
        pipeline_file(str(tmp_path / DEFAULTS))
    assert "defaults" not in pipeline_names()


def test_a_folder_of_your_own_has_defaults_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, defaults="owner: mine\n")
    monkeypatch.setenv(OWN, str(tmp_path))
    assert hidden_files() == () and "defaults" not in pipeline_names()
    assert load_plan(pipeline_path("child")).spec.owner == "mine"
    assert load_plan(pipeline_path("movielens_daily")).spec.owner == "ranking"


@pytest.mark.parametrize("name", pipeline_names())
def test_the_resolved_file_means_the_same_alone(name: str, tmp_path: Path) -> None:
    """In a folder without parents and defaults; what the stages name by path lies in the shipped one."""
    text = resolved(read(pipeline_path(name)))
    alone = Document(**vars(yaml_text.parse(text.encode(), Words("pipeline"))), path=tmp_path / f"{name}.yaml")
    assert alone.mistakes == []
    plan = load_plan(pipeline_path(name))
    value = {**alone.value, "stages": {**alone.value["stages"]}}
    expected = plan.spec.model_dump(mode="json", by_alias=True, exclude={"stages": {"__all__": {"from_"}}})
    assert (
        type(plan.spec)
        .model_validate_json(json.dumps(value), strict=True)
        .model_dump(mode="json", by_alias=True, exclude={"stages": {"__all__": {"from_"}}})
        == expected
    )
    for line in text.splitlines():
        place = line.rpartition("  # ")[2]
        if not line.endswith(":"):
            file, _, number = place.rpartition(":")
            key = line.strip().partition(":")[0].strip('"')
            written = (PIPELINES / file).read_text(encoding="utf-8").splitlines()[int(number) - 1]
            # A matrix draws its stages in a group with the name of the stage that is written.
            of_matrix = key == "group" and (written.strip() == "matrix:" or f"{line.split()[1]}:" == written.strip())
            assert key in written or of_matrix


EXTENDING = [name for name in pipeline_names() if "\nextends: " in pipeline_path(name).read_text(encoding="utf-8")]
GOLDEN = Path(__file__).resolve().parents[3] / "golden" / "resolved"


@pytest.mark.parametrize("name", EXTENDING)
def test_a_change_of_a_parent_shows_in_what_its_children_say(name: str) -> None:
    """Whoever changes a parent reads here what becomes of each child; RANKMILL_REWRITE_GOLDEN=1 writes it anew."""
    text = re.sub(r"  # \S+:\d+$", "", resolved(read(pipeline_path(name))), flags=re.MULTILINE)
    assert text == agreed(GOLDEN / f"{name}.yaml", text)
    assert {path.stem for path in GOLDEN.glob("*.txt")} == {*EXTENDING}


def test_the_shipped_pipelines_say_once_what_they_share() -> None:
    for child, parent in (("movielens_1m", "movielens_daily"), ("kuairand_random", "kuairand_daily")):
        lines = pipeline_path(child).read_text(encoding="utf-8").splitlines()
        assert len(lines) < 25 and f"extends: {parent}.yaml" in lines
        one, other = (as_json(load_plan(pipeline_path(name))) for name in (child, parent))
        assert [stage["uses"] for stage in one["stages"]] == [stage["uses"] for stage in other["stages"]][
            : len(one["stages"])
        ]
        assert one["owner"] == other["owner"] == "ranking"


VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(["on", "1e3", "0x1F", "~", "", "a: b", "#"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(VALUE)
def test_a_printed_value_is_read_back_as_it_was(value: Any) -> None:
    found = yaml_text.parse(f"key: {flow(value)}  # x.yaml:1\n".encode(), Words("pipeline"))
    assert (found.value, found.mistakes) == ({"key": value}, [])


def without_files(value: dict[str, Any]) -> dict[str, Any]:
    """Return a pipeline whose stages say themselves what they take from files; a null of its own says nothing."""
    stages = {
        name: {key: inner for key, inner in block.items() if key != "from"} for name, block in value["stages"].items()
    }
    return {key: inner for key, inner in {**value, "stages": stages}.items() if inner is not None}


WHOLE = {
    name: without_files(read(pipeline_path(name)).value)
    for name in ("movielens_daily", "household_offers", "movielens_memory")
}


@given(st.sampled_from(sorted(WHOLE)), st.data())
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_however_a_pipeline_is_shared_out_it_says_the_same(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    """Each value stands in the pipeline, in the parent, or in both, where the parent says something else."""

    def share(value: dict[str, Any], where: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
        above: dict[str, Any] = {}
        below: dict[str, Any] = {}
        for key, inner in value.items():
            # Of another kind, a block would be another block.
            fixed = key in ("uses", *KIND_KEYS)
            place = data.draw(st.sampled_from(["above", "below", "both"]))
            if isinstance(inner, dict) and inner and place == "both":
                above[key], below[key] = share(inner, (*where, key))
            else:
                if place != "below":
                    above[key] = inner
                if place != "above":
                    below[key] = inner if place == "below" or fixed or isinstance(inner, dict) else ["other"]
        return above, below

    folder = tmp_path_factory.mktemp("shared")
    above, below = share(WHOLE[name], ())
    above, below = {**above, "name": "child", "extends": "shared/parent.yaml"}, {**below, "name": "parent"}
    document = written(folder, shared__parent=f"{flow(below)}\n", child=f"{flow(above)}\n")
    assert document.problems() == []
    assert {**document.value, "name": name} == WHOLE[name]
    for at in places(document.value):
        home, inner = document.home(at)
        assert inner in home.keys or not inner, "each key stands where it is said to"


def places(value: Any, where: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [where]
    for key, inner in value.items() if isinstance(value, dict) else ():
        found += places(inner, (*where, key))
    return found


@given(VALUE, VALUE)
def test_a_layer_that_says_all_hides_what_is_below(below: Any, above: Any) -> None:
    """Laying the same file twice changes nothing, whatever it holds."""
    from pipelines.language.extend import _Merge

    layer = yaml_text.parse(f"{{a: {flow(below)}, b: {flow(above)}}}".encode(), Words("pipeline"))
    document = Document(**vars(layer), path=Path("x.yaml"))
    merge = _Merge()
    merge.lay(document)
    once = json.dumps(merge.value)
    if "null" not in once:
        merge.lay(document)
        assert json.dumps(merge.value) == once
