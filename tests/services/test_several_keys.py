"""Does Redis answer about combinations, such as a user and an author, what a training row of that moment sees?"""

from __future__ import annotations

from pathlib import Path

import pytest

from components.data.materialize_features.component import write_tables
from features.joins.store import views_without_values
from tests.services.servers import HOST, Servers
from tests.unit.features.test_several_keys import ASKED, WINDOW, definitions, joined, published, served

pytestmark = pytest.mark.services
STORE = """
project: rankmill
provider: local
registry: {folder}/registry.db
online_store: {{type: redis, connection_string: "{address}"}}
entity_key_serialization_version: 3
"""
ROWS = [(0, 0, "", 3, 1), (1, 0, "a", 90, 1), (1, 1, "a", 91, 0), (1, 2**40, "b", 92, 1), (7, None, "a", 93, 1)]


def test_redis_answers_about_pairs_as_training_sees_them(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"{HOST}:{servers.port['redis']},password={servers.password}"
    (tmp_path / "store.yaml").write_text(STORE.format(folder=tmp_path, address=address))
    monkeypatch.setenv("RANKMILL_FEATURE_STORE", str(tmp_path / "store.yaml"))
    own = definitions()
    found = served(published(tmp_path, ROWS, own), ASKED)
    assert found == joined(tmp_path, ASKED, own)
    assert {None, 1} == {*found["liking_impressions"]}
    snapshot = write_tables(tmp_path, "shop", WINDOW, tmp_path, own)
    assert views_without_values(tmp_path / "feast", tmp_path, snapshot) == []
    servers.redis().flushall()
    assert views_without_values(tmp_path / "feast", tmp_path, snapshot) == ["liking", "places", "users"]
