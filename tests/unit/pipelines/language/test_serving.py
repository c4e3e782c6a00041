"""Is the file of a service judged whole, with places and sentences, and is its schema what the models say?"""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from components.platform.errors import MissingError
from pipelines.language.load import read
from pipelines.language.problems import PipelineError
from pipelines.language.serving import load_serving, serving_file, serving_files
from pipelines.show.reference.schema import SERVING_SCHEMA_FILE, schema_texts

SOUND = "name: shop\nmodel: shop_ranker\n"


def problems(tmp_path: Path, text: str) -> str:
    file = tmp_path / "shop.yaml"
    file.write_text(text)
    with pytest.raises(PipelineError) as error:
        load_serving(file)
    return str(error.value)


@pytest.mark.parametrize("name", sorted(serving_files()))
def test_shipped_services_are_right_and_name_their_schema(name: str) -> None:
    path = serving_file(name)
    assert load_serving(path).name == name
    assert path.read_text(encoding="utf-8").startswith(
        "# yaml-language-server: $schema=../schema/serving.schema.json\n"
    )


def test_the_schema_is_fresh_and_takes_what_is_shipped() -> None:
    text = SERVING_SCHEMA_FILE.read_text(encoding="utf-8")
    assert text == schema_texts()[SERVING_SCHEMA_FILE], "run `rankmill schema --write`"
    validator = jsonschema.Draft7Validator(json.loads(text))
    for name in serving_files():
        assert list(validator.iter_errors(read(serving_file(name)).value)) == []
    assert list(validator.iter_errors({"name": "shop", "model": "m", "listn": {}}))


def test_the_least_file_is_enough(tmp_path: Path) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text(SOUND)
    assert load_serving(file).model == "shop_ranker"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("listn: {port: 1}\n", ":3:1: unknown key 'listn' (did you mean 'listen'?)"),
        ("listen: {port: 70000}\n", ":3:16: "),
        ("follow: {every: 5}\n", "must be a duration such as 30s, 5m, 2h or 1d"),
        ("features: {timeout: 50}\n", "must be a duration such as 50ms, 30s, 5m, 2h or 1d"),
        ("listen: {host: 10.0.0.7}\n", "name a token"),
        ("listen: {token: hunter2}\n", ":3:17: "),
        ("shadow: {share: 1.5}\nlog: {}\n", ":3:17: "),
        ("canary: {share: -0.1}\n", ":3:17: "),
        ("canary: {alias: challenger}\n", "share"),
        ("shadow: {share: 0.1}\n", ":3:9: what a shadow says is kept in the log alone"),
        ("shadow: {alias: champion, share: 0.1}\nlog: {}\n", ":3:17: the shadow is 'champion', which answers already"),
        ("follow: {alias: challenger}\ncanary: {share: 0.1}\n", ":4:9: the canary is 'challenger', which answers"),
        ("canary: {share: 0.1, stop: {errors: 2}}\n", ":3:37: "),
        ("description: ok\nfollow: {alias: '${env:ALIAS}'}\n", "only listen.token and log.hash_key are fetched"),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path: Path, more: str, said: str) -> None:
    assert said in problems(tmp_path, SOUND + more)


def test_it_is_named_like_its_file_and_everything_is_told_at_once(tmp_path: Path) -> None:
    told = problems(tmp_path, "name: shap\nmodel: a/b\nlimits: {queue: -1}\n")
    assert "named 'shap' in a file named 'shop'" in told and ":2:8: " in told and ":3:17: " in told


def test_challengers_are_followed_once_each(tmp_path: Path) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text(SOUND + "log: {}\nshadow: {share: 0.5}\ncanary: {share: 0.01, stop: {p99: 2s}}\n")
    assert load_serving(file).challengers == ("challenger",)
    file.write_text(SOUND + "log: {}\nshadow: {share: 0.5, alias: next}\ncanary: {share: 0.01}\n")
    assert load_serving(file).challengers == ("next", "challenger")


def test_a_token_may_be_a_reference_and_nothing_else_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text(SOUND + 'listen: {host: 10.0.0.7, token: "${env:SHOP_TOKEN}"}\n')
    assert load_serving(file).listen.token == "${env:SHOP_TOKEN}"


def test_another_name_is_no_service() -> None:
    with pytest.raises(MissingError, match="did you mean 'movielens'"):
        serving_file("movilens")
