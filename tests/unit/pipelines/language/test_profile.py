"""Is a profile checked like a pipeline, does it set what it says, and does no output ever hold a secret?

Golden files as in `test_golden_errors`; a pipeline below `pipelines/` names its profile in its first line.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import jsonschema
import pytest

from components.platform.errors import BadInputError, MissingError
from components.platform.settings import Settings
from pipelines.language import hiding
from pipelines.language.check import load_plan
from pipelines.language.load import pipeline_path, read
from pipelines.language.problems import PipelineError
from pipelines.language.profile import ACTIVE, load_profile, profile_file, profile_files, use_profile
from pipelines.language.profile_spec import SECRETS as SECRET_KEYS
from pipelines.language.profile_spec import VARIABLES
from pipelines.show.reference.schema import PROFILE_SCHEMA_FILE, schema_texts
from registry.champion.protection import Protection
from tests.commands import rankmill
from tests.golden_files import agreed, marked_places

FOLDER = Path(__file__).resolve().parents[3] / "golden" / "profiles"
FILES = sorted(FOLDER.glob("*.yaml"))
PIPELINES = sorted((FOLDER / "pipelines").glob("*.yaml"))
SECRETS = ("hunter2", "24042442", "ada:")
SEMANTIC = {
    "wrong_file_name", "password_in_a_url", "partial_reference", "unknown_reference", "relative_path",
    "variable_with_a_key", "cuda_without_a_gpu", "more_workers_than_gpus", "secret_in_the_environment",
}  # fmt: skip
"""Mistakes that no schema can see."""


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hiding, "_secrets", set())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_wrong_profile_is_told_as_agreed_and_without_secrets(path: Path) -> None:
    with pytest.raises(PipelineError) as caught:
        load_profile(path)
    message = str(caught.value)
    found = [(problem.line, problem.column) for problem in caught.value.problems]
    assert sorted(found) == marked_places(path), message
    assert message == agreed(path, message)
    assert not any(secret in message for secret in SECRETS)


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_a_pipeline_that_asks_for_more_than_its_profile_has_is_told_as_agreed(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    with pytest.raises(PipelineError) as caught:
        load_plan(path, load_profile(profile_file(first.removeprefix("# profile: "))))
    message = str(caught.value)
    found = [(problem.line, problem.column) for problem in caught.value.problems]
    assert sorted(found) == marked_places(path), message
    assert message == agreed(path, message)
    assert load_plan(path).name == path.stem, "without a profile the machine decides"


def test_every_golden_file_has_its_message() -> None:
    for files, folder in ((FILES, FOLDER), (PIPELINES, FOLDER / "pipelines")):
        assert {path.stem for path in folder.glob("*.txt")} == {path.stem for path in files}


@pytest.mark.parametrize("name", sorted(profile_files()))
def test_shipped_profiles_are_right_and_name_their_schema(name: str) -> None:
    path = profile_file(name)
    assert load_profile(path).spec.name == name
    assert path.read_text(encoding="utf-8").startswith(
        "# yaml-language-server: $schema=../schema/profile.schema.json\n"
    )


def test_the_schema_is_fresh_and_sees_what_a_schema_can() -> None:
    text = PROFILE_SCHEMA_FILE.read_text(encoding="utf-8")
    assert text == schema_texts()[PROFILE_SCHEMA_FILE], "run `rankmill schema --write`"
    validator = jsonschema.Draft7Validator(json.loads(text))
    for name in profile_files():
        assert list(validator.iter_errors(read(profile_file(name)).value)) == []
    for path in FILES:
        assert (list(validator.iter_errors(read(path).value)) == []) == (path.stem in SEMANTIC), path.stem


def test_its_keys_are_the_variables_that_settings_read(tmp_path: Path) -> None:
    """Every location of `Settings` can be written in a profile, and arrives."""
    settings = Settings.at(tmp_path).environment() | {"RANKMILL_RAY_ADDRESS": ""}
    assert {*settings} <= {*VARIABLES.values()}
    lines = ["name: all"]
    for (first, *rest), variable in VARIABLES.items():
        if (first, *rest) in SECRET_KEYS:
            continue  # no file may hold their values
        if first in ("groups", "protect"):
            continue  # no places: see test_it_says_who_may_move_the_champion
        value = "7" if variable == "OMP_NUM_THREADS" or "_KEEP_" in variable else f'"/there/{variable.lower()}"'
        lines += [f"{first}: {{{rest[0]}: {value}}}" if rest else f"{first}: {value}"]
    merged: dict[str, list[str]] = {}
    for line in lines:
        key, _, value = line.partition(": ")
        merged.setdefault(key, []).append(value.strip("{}") if value.startswith("{") else value)
    text = "".join(
        f"{key}: {values[0]}\n" if ":" not in values[0] else f"{key}: {{{', '.join(values)}}}\n"
        for key, values in merged.items()
    )
    file = tmp_path / "all.yaml"
    file.write_text(text)
    environ: dict[str, str] = {"RANKMILL_HOME": "/forgotten"}
    use_profile(str(file), environ)
    found = Settings.from_environment(environ)
    assert found.artifacts == "/there/rankmill_artifacts" and found.home == Path("/there/rankmill_home")
    for variable in settings:
        assert environ[variable] == f"/there/{variable.lower()}"
    assert environ["OMP_NUM_THREADS"] == "7" and environ[ACTIVE] == str(file)


TEXT = """
name: place
artifacts: ${env:BUCKET}
mlflow: {tracking_uri: "${connection:mlflow}"}
environment: {AWS_SECRET_ACCESS_KEY: "${env:S3_SECRET}"}
"""


@pytest.fixture
def place(tmp_path: Path) -> str:
    (tmp_path / "place.yaml").write_text(TEXT)
    return str(tmp_path / "place.yaml")


def test_references_are_fetched_and_all_that_is_missing_is_told_at_once(place: str) -> None:
    environ = {"BUCKET": "s3://bucket"}
    with pytest.raises(BadInputError) as caught:
        use_profile(place, environ)
    lines = str(caught.value).splitlines()
    assert "place.yaml:4:24: profile 'place' needs the Airflow connection 'mlflow' (AIRFLOW_CONN_MLFLOW)" in lines[0]
    assert "place.yaml:5:38: profile 'place' needs the environment variable S3_SECRET" in lines[1]
    assert environ == {"BUCKET": "s3://bucket"}, "nothing is set when not all of it can be"
    environ |= {"S3_SECRET": "s3cr3t", "AIRFLOW_CONN_MLFLOW": "http://ada:p%40ss@mlflow:5000"}
    use_profile(place, environ)
    assert environ["MLFLOW_TRACKING_URI"] == "http://ada:p%40ss@mlflow:5000"
    assert environ["RANKMILL_ARTIFACTS"] == "s3://bucket"
    said = "http://ada:p%40ss@mlflow:5000 s3cr3t p@ss s3://bucket"
    assert hiding.hidden(said) == "*** *** *** s3://bucket", "a place is no secret"


def test_the_password_inside_a_connection_string_is_hidden_too() -> None:
    hiding.remember(["redis:6379,password=h4mster,ssl=true"])
    assert (
        hiding.hidden("redis:6379,password=h4mster,ssl=true and h4mster at redis:6379") == "*** and *** at redis:6379"
    )


def test_a_connection_may_come_from_airflow_itself(place: str) -> None:
    environ = {"BUCKET": "s3://bucket", "S3_SECRET": "s3cr3t"}
    use_profile(place, environ, fetch={"mlflow": "http://mlflow:5000"}.get)
    assert environ["MLFLOW_TRACKING_URI"] == "http://mlflow:5000"


def test_a_place_may_hold_no_password_and_a_connection_must_be_a_uri(place: str) -> None:
    good = {"BUCKET": "s3://bucket", "S3_SECRET": "s3cr3t", "AIRFLOW_CONN_MLFLOW": "http://mlflow:5000"}
    for name, value, words in (
        ("BUCKET", "s3://key:hunter2@bucket", "the value of artifacts holds a password"),
        ("AIRFLOW_CONN_MLFLOW", '{"conn_type": "http"}', "must hold a URI"),
    ):
        with pytest.raises(BadInputError, match=words) as caught:
            use_profile(place, good | {name: value})
        assert "hunter2" not in str(caught.value)


def test_stages_get_what_a_profile_gives_where_they_do_not_say(tmp_path: Path) -> None:
    file = tmp_path / "many.yaml"
    file.write_text("name: many\nprovider: cpu\ndevice: cpu\nresources: {workers: 1}\n")
    daily = pipeline_path("movielens_daily")
    plan = load_plan(daily, load_profile(file))
    assert plan.stage("train").config["workers"] == 2, "the pipeline says so"
    assert plan.stage("train").config["device"] == "cpu"
    assert [stage.name for stage in plan.stages if stage.config.get("provider") == "cpu"] == [
        "export", "evaluate", "promote"
    ]  # fmt: skip
    assert "device" not in load_plan(daily).stage("train").config


def test_an_unknown_profile_is_told_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"no profile 'prot' \(did you mean 'prod'\?\)"):
        use_profile("prot", {})
    assert use_profile(None, {}) is None


@pytest.mark.parametrize("arguments", [("doctor",), ("plan", "movielens_daily"), ("models",), ("profiles", "PLACE")])
def test_no_command_shows_a_secret(arguments: tuple[str, ...], place: str, tmp_path: Path) -> None:
    environ = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "RANKMILL_HOME": str(tmp_path / "home"),
        "BUCKET": (tmp_path / "store").as_uri(), "S3_SECRET": "s3cr3t-key",
        "AIRFLOW_CONN_MLFLOW": "http://ada:hunter2@127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "RANKMILL_TRACEBACK": "1", ACTIVE: place,
    }  # fmt: skip
    words = [place if word == "PLACE" else word for word in arguments]
    done = rankmill(*words, env=environ)
    said = done.stdout + done.stderr
    assert said and "hunter2" not in said and "s3cr3t-key" not in said
    if arguments == ("doctor",):
        assert "***" in said, "the address that does not answer is told, without what it hides"


def test_it_says_who_may_move_the_champion(tmp_path: Path) -> None:
    file = tmp_path / "guarded.yaml"
    file.write_text(
        "name: guarded\n"
        "groups: {leads: [ada, bob]}\n"
        "protect: {champion: {pipelines: [movielens_daily], people: [leads]}}\n"
    )
    environ: dict[str, str] = {}
    use_profile(str(file), environ)
    found = Protection.from_environment(environ)
    actors = ("pipeline:movielens_daily", "pipeline:kuairand_daily", "bob", "eve")
    assert [found.refusal(actor, "m") is None for actor in actors] == [True, False, True, False]
