"""Does a secret arrive in Feast's configuration whole, and stay out of what is said about a fault?"""

from __future__ import annotations

from pathlib import Path

import pytest

from features.ground.errors import BadInputError
from features.joins import store

YAML = """project: shop
provider: local
registry: {registry_type: sql, path: "${SHOP_REGISTRY}"}
online_store:
  type: redis
  connection_string: ${SHOP_REDIS} # a comment of the file
entity_key_serialization_version: 3
"""


@pytest.fixture
def custom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "feature_store.yaml"
    path.write_text(YAML)
    monkeypatch.setenv(store.CUSTOM_STORE, str(path))
    monkeypatch.setenv("SHOP_REGISTRY", "sqlite:///r.db")
    monkeypatch.chdir(tmp_path)  # where a relative registry would appear
    return path


@pytest.mark.parametrize(
    "password",
    ["a #b", "a: b", "a}b", "{a", "a'b", 'a"b', "*a", "&a", "!a", "%a", "@a", "- a", "[a", "a, b", "on", "007"],
)
@pytest.mark.parametrize("first", ["", "redis:6379,password="])
def test_a_password_arrives_whole(
    custom: Path, tmp_path: Path, password: str, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_REDIS", first + password)
    monkeypatch.setenv("SHOP_REGISTRY", f"sqlite:///{password}")
    config = store.shared_config(tmp_path)
    assert config.online_store.connection_string == first + password
    assert config.registry.path == f"sqlite:///{password}"


def test_a_fault_is_told_without_any_value(custom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "s3cret: of }the #shop"
    monkeypatch.setenv("SHOP_REDIS", secret)
    for changed in (
        YAML.replace("type: redis", "type: ${SHOP_REDIS}"),
        YAML.replace("entity_key_serialization_version: 3", "entity_key_serialization_version: ${SHOP_REDIS}"),
        YAML.replace("{registry_type: sql", "{registry_type: ${SHOP_REDIS}"),
        YAML.replace("project: shop", "project: [${SHOP_REDIS}]"),
    ):
        custom.write_text(changed)
        with pytest.raises(BadInputError) as caught:
            store.shared_config(tmp_path)
        said = str(caught.value)
        assert str(custom) in said and "\n" not in said
        assert not [part for part in ("s3cret", "the #shop", "}the") if part in said]


def test_a_file_that_is_no_yaml_is_one_sentence_with_its_line(custom: Path, tmp_path: Path) -> None:
    custom.write_text("project: shop\nregistry: {path: p4ss\n")
    with pytest.raises(BadInputError, match=r"feature_store\.yaml, line \d+ is no YAML: ") as caught:
        store.shared_config(tmp_path)
    assert "p4ss" not in str(caught.value) and "\n" not in str(caught.value)
