"""Are the Feast definitions complete, and does the command line see exactly them?"""

from __future__ import annotations

from pathlib import Path

import pytest

from features.definitions import load_definitions
from features.ground.errors import MissingError
from features.services.service import describe

FEATURES = Path(__file__).resolve().parents[3] / "features"


def test_the_ranker_sees_profiles_and_activity_and_the_linear_one_only_profiles() -> None:
    profile, _ = describe("movielens_profile")
    ranker, sources = describe("movielens_ranker")
    assert {f.name for f in profile} == {"age", "gender", "occupation", "release_year", "genres"}
    assert {f.name for f in profile} < {f.name for f in ranker}
    assert [s.file for s in sources] == [
        "item_activity.parquet", "item_profile.parquet", "user_activity.parquet", "user_profile.parquet",
    ]  # fmt: skip


def test_tags_of_a_field_become_its_default_encoding() -> None:
    features = {feature.name: feature for feature in describe("movielens_ranker")[0]}
    recent = features["recent_items"]
    assert recent.dtype == "array<int64>"
    assert recent.encoding is not None
    assert (recent.encoding.kind, recent.encoding.shares, recent.encoding.length) == ("sequence", "item_id", 50)
    assert features["recent_likes"].auxiliary
    assert features["gender"].encoding is None


def test_an_unknown_service_names_the_nearest_one() -> None:
    with pytest.raises(MissingError, match="did you mean 'movielens_ranker'"):
        describe("movielens_rankr")


def test_every_source_can_be_moved_with_its_artifact_and_excludes_late_rows() -> None:
    for view in load_definitions().views:
        source = view.batch_source
        assert not Path(source.path).is_absolute()
        assert source.created_timestamp_column == "created_timestamp"


def test_the_feast_command_loads_one_file_and_that_file_names_every_object() -> None:
    from feast.repo_operations import get_repo_files, parse_repo

    assert get_repo_files(FEATURES) == [FEATURES / "feast_repo.py"]
    definitions, found = load_definitions(), parse_repo(FEATURES)
    assert {one.name for one in found.entities} - {"__dummy"} == {one.name for one in definitions.entities}
    assert {one.name for one in found.feature_views} == {one.name for one in definitions.views}
    assert {one.name for one in found.feature_services} == {one.name for one in definitions.services}
    assert {one.name for one in found.data_sources} == {view.batch_source.name for view in definitions.views}
