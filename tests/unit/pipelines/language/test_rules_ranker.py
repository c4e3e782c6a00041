"""Does `validate` refuse a ranker exactly where building it would be refused, and follow only wires that are there?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from components.platform.errors import BadInputError
from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from pipelines.language.check import load_plan
from pipelines.language.problems import PipelineError
from pipelines.language.rules import ranker
from pipelines.language.rules.draft import PipelineDraft
from tests.ingesting import MOVIELENS
from tests.registered import DOMAINS, HEADS, OPTIONS, RANKERS
from tests.unit.components.rankers.conftest import make_schema

BLOCKS: list[dict[str, Any]] = [
    *({"name": name} for name in sorted(RANKERS)),
    *({"name": "dnn", "head": name} for name in HEADS),
    *({"name": "mmoe", "domain": name} for name in DOMAINS),
    {"name": "esmm", "head": "single"},
    {"name": "star", "domain": "none"},
    {"name": "fintrec", "cvr_space": "click"},
    {"name": "gnolr", "gamma": [3.0]},
    {"name": "gnolr", "gamma": [3.0, 0.5]},
]
ROLES: list[dict[str, Any]] = [
    {"feedback": ["like"]},
    {"feedback": ["like", "love"]},
    {"feedback": ["like", "love"], "funnel": False},
    {"feedback": ["like", "love"], "domain": "user_id"},
]


def write(folder: Path, ranker: dict[str, Any], roles: dict[str, Any], wired: bool = True) -> Path:
    # Times of a history, which `fintrec` needs.
    dataset = {"feature_service": "movielens_ranker", "include": ["recent_times"], **roles}
    stages = {
        "ingest": {"uses": "ingest_table", "with": MOVIELENS},
        "features": {
            "uses": "materialize_features",
            "in": {"table": "ingest.events"},
            "with": {"feature_service": "movielens_ranker"},
        },
        "dataset": {
            "uses": "build_training_set",
            "in": {"events": "ingest.events", "features": "features.feature_tables"},
            "with": dataset,
        },
        "train": {
            "uses": "train_ranker",
            "in": {"dataset": "dataset.training_set"} if wired else {},
            "with": {"ranker": ranker},
        },
    }
    path = folder / "nightly.yaml"
    path.write_text(yaml.safe_dump({"name": "nightly", "window": {"days": 3}, "stages": stages}, sort_keys=False))
    return path


def refused(path: Path) -> list[str]:
    try:
        load_plan(path)
    except PipelineError as error:
        return [problem.message for problem in error.problems]
    return []


@pytest.mark.parametrize("roles", ROLES, ids=str)
@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_what_cannot_be_built_is_refused_from_the_file_in_the_same_words(
    block: dict[str, Any], roles: dict[str, Any], tmp_path: Path
) -> None:
    schema = make_schema(*roles["feedback"], funnel=roles.get("funnel", True))
    declaration = schema.declaration.model_copy(update={"domain": roles.get("domain")})
    config = RankerConfig.model_validate(block | ({"hidden": (4,)} if "hidden" in OPTIONS[block["name"]] else {}))
    expected = []
    try:
        build_ranker(config, schema.model_copy(update={"declaration": declaration}))
    except BadInputError as error:
        expected = [str(error)]
    assert refused(write(tmp_path, block, roles)) == expected


@pytest.mark.parametrize(
    ("block", "roles"),
    [
        ({"name": "gnolr"}, {"feedback": ["love", "like"], "funnel": False}),
        ({"name": "adaptdhm"}, {"feedback": ["like"]}),
        ({"name": "mmoe"}, {"feedback": ["like"]}),
        ({"name": "ple"}, {"feedback": ["like"]}),
        ({"name": "dnn", "embedding": "hashed", "buckets": 100}, {"feedback": ["like"]}),
        ({"name": "star", "domain": "adaptdhm", "clusters": 2}, {"feedback": ["like"]}),
    ],
    ids=str,
)
def test_what_makes_sense_is_left_alone(block: dict[str, Any], roles: dict[str, Any], tmp_path: Path) -> None:
    assert refused(write(tmp_path, block, roles)) == []


def test_without_a_wire_nothing_is_said_about_roles(tmp_path: Path) -> None:
    [message] = refused(write(tmp_path, {"name": "esmm"}, {"feedback": ["like"]}, wired=False))
    assert "input 'dataset' of train_ranker is missing" in message


def test_mistakes_elsewhere_hide_nothing_and_broken_roles_accuse_nobody(tmp_path: Path) -> None:
    split = {"train": 0.5, "validation": 0.1, "test": 0.1}
    messages = refused(write(tmp_path, {"name": "esmm", "clusters": 3}, {"feedback": ["like"], "split": split}))
    assert [message.split(" ")[0] for message in messages] == ["train", "ranker", "'clusters'"]
    [message] = refused(write(tmp_path, {"name": "star"}, {"feedback": ["like"], "domain": 3}))
    assert message == "domain must be a text, not 3: put it in quotes"


def test_rankers_are_looked_for_once_however_many_rules_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[PipelineDraft] = []
    monkeypatch.setattr(ranker, "_trainings", lambda draft: looked.append(draft) or ())
    assert refused(write(tmp_path, {"name": "esmm"}, {"feedback": ["like"]})) == [] and len(looked) == 1


@pytest.mark.parametrize("part", [{"embedding": "frozen"}, {"sequence": "muse"}])
def test_what_reads_vectors_finds_them_behind_attach_vectors(part: dict[str, str], tmp_path: Path) -> None:
    path = write(tmp_path, {"name": "dnn", **part}, ROLES[0])
    (message,) = refused(path)
    assert "put attach_vectors between the training set and the training" in message
    spec = yaml.safe_load(path.read_text())
    stages = spec["stages"]
    table = {"table": "ingest.events"}
    stages["vectors"] = {"uses": "embed_text", "in": table, "with": {"columns": ["title"]}}
    wires = {"dataset": "dataset.training_set", "vectors": "vectors.vectors"}
    stages["known"] = {"uses": "attach_vectors", "in": wires, "with": {}}
    stages["train"]["in"]["dataset"] = "known.training_set"
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    assert refused(path) == []
