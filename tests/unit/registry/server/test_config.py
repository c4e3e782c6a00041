"""Does the file of a service keep it shut to strangers, and say what is wrong with it?"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from registry.serving.wire.config import Listen, ServingConfig


def test_the_least_file_listens_to_this_machine_alone() -> None:
    config = ServingConfig.model_validate({"name": "shop", "model": "shop_ranker"})
    assert config.listen.loopback and config.listen.token is None
    assert "localhost" in config.listen.known_hosts
    assert config.features.timeout == timedelta(milliseconds=50)


@pytest.mark.parametrize(
    ("listen", "said"),
    [
        ({"host": "10.0.0.7"}, "name a token"),
        ({"host": "0.0.0.0"}, "name a token"),
        ({"host": "0.0.0.0", "token": "${env:T}"}, "name in hosts"),
        ({"host": "10.0.0.7", "token": "hunter2"}, "pattern"),
        ({"host": "http://here"}, "without a port"),
        ({"port": 0}, "greater than or equal to 1"),
    ],
)
def test_what_would_be_open_is_refused(listen: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Listen.model_validate(listen)


def test_hosts_are_those_that_were_named() -> None:
    listen = Listen.model_validate({"host": "0.0.0.0", "token": "${env:T}", "hosts": ["rank.shop.example"]})
    assert {"rank.shop.example", "localhost"} <= {*listen.known_hosts} and "0.0.0.0" not in listen.known_hosts


@pytest.mark.parametrize("model", ["../x", "a/b", "", ".", "a b", "x" * 129])
def test_a_model_s_name_is_no_path(model: str) -> None:
    with pytest.raises(ValidationError):
        ServingConfig.model_validate({"name": "shop", "model": model})


def test_sizes_and_times_are_written_with_units() -> None:
    config = ServingConfig.model_validate(
        {"name": "shop", "model": "m", "limits": {"body": "512KiB", "timeout": "80ms"}, "follow": {"every": "2m"}}
    )
    assert config.limits.body == 512 << 10
    assert config.limits.timeout == timedelta(milliseconds=80)
    assert config.follow.every == timedelta(minutes=2)
    again = ServingConfig.model_validate_json(config.model_dump_json())
    assert again == config


@pytest.mark.parametrize("limits", [{"body": "4 MB"}, {"timeout": "soon"}, {"body": True}, {"candidates": 0}])
def test_other_units_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ServingConfig.model_validate({"name": "shop", "model": "m", "limits": limits})


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"memory": {"live": True}}, "give a log with hidden: true"),
        ({"memory": {"live": True}, "log": {"hidden": False}}, "give a log with hidden: true"),
        ({"memory": {"live": True, "use": False}, "log": {}}, "memory.use is false"),
    ],
)
def test_a_memory_cannot_learn_from_nothing_or_for_nobody(sections: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ServingConfig.model_validate({"name": "shop", "model": "shop", **sections})


def test_a_share_of_the_log_is_enough_to_learn_from() -> None:
    options = {"memory": {"live": True}, "log": {"share": 0.1}}
    assert ServingConfig.model_validate({"name": "shop", "model": "shop", **options}).memory.live


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ({"hash": ["user_id"]}, "name hash_key"),
        ({"hash": ["user_id"], "hash_key": "plain"}, "String should match pattern"),
        ({"hash": ["user_id"], "hash_key": "${env:SALT}", "drop": ["user_id"]}, "name it once"),
    ],
)
def test_a_hash_has_a_secret_by_reference(log: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ServingConfig.model_validate({"name": "shop", "model": "m", "log": log})
    hashed = {"hash": ["user_id"], "hash_key": "${env:SALT}"}
    with pytest.raises(ValidationError, match="a hash does not give back"):
        ServingConfig.model_validate({"name": "shop", "model": "m", "log": hashed, "memory": {"live": True}})
