"""Can the container files be right? Checked without an engine: their shape, pins, variables, ports and secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from pipelines.language.profile import load_profile
from pipelines.language.profile_spec import REFERENCE
from pipelines.language.serving import load_serving
from registry.serving.server.app import DRAIN

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "docs" / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
CONTAINERFILE = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
PINNED = re.compile(r"(docker\.io/[\w/-]+|rankmill):\d+\.\d+[\w.-]*")
OWN = [name for name, service in SERVICES.items() if service["image"].startswith("rankmill:")]


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for part in value.values():
            yield from texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from texts(part)
    elif isinstance(value, str):
        yield value


def schema_problems(compose: Any) -> list[str]:
    schema = json.loads(files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json").read_text())
    validator = jsonschema.validators.validator_for(schema)(schema)
    return [error.message for error in validator.iter_errors(compose)]


def test_it_is_a_compose_file() -> None:
    assert schema_problems(COMPOSE) == []
    assert schema_problems(COMPOSE | {"services": {"redis": {"imgae": "redis"}}}), "the schema would notice"


def test_the_whole_set_is_there() -> None:
    whole = {"postgres", "redis", "s3", "mlflow", "ray", "api-server", "scheduler", "dag-processor", "serve"}
    assert whole <= {*SERVICES}
    wanted = {name for service in SERVICES.values() for name in service.get("depends_on", ())}
    assert wanted <= {*SERVICES}
    waited_for = {
        name
        for service in SERVICES.values()
        for name, how in service.get("depends_on", {}).items()
        if how["condition"] == "service_healthy"
    }
    assert waited_for <= {name for name, service in SERVICES.items() if "healthcheck" in service}


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_is_pinned(name: str) -> None:
    assert PINNED.fullmatch(SERVICES[name]["image"])


def test_the_base_image_is_pinned_and_has_the_python_of_the_project() -> None:
    [base] = re.findall(r"^FROM (\S+)$", CONTAINERFILE, re.MULTILINE)
    assert PINNED.fullmatch(base) and ":3.11." in base


@pytest.mark.parametrize("name", ["scheduler", "dag-processor", "api-server", "serve"])
def test_a_process_has_every_variable_that_the_profile_refers_to(name: str) -> None:
    profile = load_profile(ROOT / "pipelines" / "profiles" / "prod.yaml")
    found = [match for _, text in profile.variables.values() if (match := REFERENCE.fullmatch(text))]
    wanted = {match["name"] if match["kind"] == "env" else f"AIRFLOW_CONN_{match['name'].upper()}" for match in found}
    assert len(wanted) > 5
    assert wanted <= {*SERVICES[name]["environment"]}
    assert SERVICES[name]["environment"]["RANKMILL_PROFILE"] == "prod"


def test_feasts_configuration_reads_variables_that_the_profile_sets() -> None:
    profile = load_profile(ROOT / "pipelines" / "profiles" / "prod.yaml")
    text = (DEPLOY / "feature_store.yaml").read_text(encoding="utf-8")
    assert {*re.findall(r"\$\{(\w+)\}", text)} == {"RANKMILL_FEAST_REDIS", "RANKMILL_FEAST_REGISTRY"}
    assert {*re.findall(r"\$\{(\w+)\}", text)} <= {*profile.variables}
    assert f"docs/deploy/feature_store.yaml {profile.spec.feast.config}\n" in CONTAINERFILE


def test_the_service_answers_whom_it_should() -> None:
    serve = SERVICES["serve"]
    file = Path(serve["command"][serve["command"].index("serve") + 1])
    assert f"docs/deploy/{file.name} {file}\n" in CONTAINERFILE
    config = load_serving(DEPLOY / file.name)
    token = REFERENCE.fullmatch(config.listen.token or "")
    assert token is not None and token["name"] in serve["environment"]
    assert not config.listen.loopback and "serve" in config.listen.known_hosts
    assert serve["ports"] == [f"127.0.0.1:{config.listen.port}:{config.listen.port}"]
    assert f":{config.listen.port}/v2/health/live" in serve["healthcheck"]["test"][-1], "what needs no token"
    assert int(serve["stop_grace_period"].removesuffix("s")) > DRAIN, "a stop is not cut short"
    shipped = load_serving(ROOT / "pipelines" / "serving" / "movielens.yaml")
    assert (config.model, config.features, config.limits) == (shipped.model, shipped.features, shipped.limits)


def test_ports_are_published_on_loopback_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports and all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in ports)
    assert not any(service.get("network_mode") for service in SERVICES.values())


def test_a_secret_comes_from_the_environment_and_has_no_default() -> None:
    example = (DEPLOY / "example.env").read_text(encoding="utf-8")
    asked = re.findall(r"^(\w+)=(.*)$", example, re.MULTILINE)
    assert all(value == "" for _, value in asked), "no secret stands in the example"
    used = {name for text in texts(SERVICES) for name in re.findall(r"(?<!\$)\$\{(\w+)", text)}
    assert used == {name for name, _ in asked}
    assert all(text.count("${") == text.count(":?}") for text in texts(SERVICES)), "an empty secret is an error"
    for service in SERVICES.values():
        for variable, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|_KEY|AUTH$|TOKEN", variable):
                assert re.fullmatch(r"\$\{\w+:\?\}", value), variable
        for value in texts(service):
            for password in re.findall(r"://[^/@\s]*?:([^/@\s]+(?:\}\S*?)?)@|password=(\S+)", value):
                assert re.fullmatch(r"\$\{\w+:\?\}", "".join(password)), value
    assert "/docs/deploy/.env" in (ROOT / ".gitignore").read_text(encoding="utf-8").split()


def test_ray_asks_for_a_token() -> None:
    assert SERVICES["ray"]["environment"]["RAY_AUTH_MODE"] == "token"
    assert (
        SERVICES["ray"]["environment"]["RAY_AUTH_TOKEN"]
        == SERVICES["scheduler"]["environment"]["RANKMILL_PROD_RAY_TOKEN"]
    )


def test_what_the_image_copies_is_there_and_nothing_of_it_is_ignored() -> None:
    copied = [
        source
        for line in re.findall(r"^COPY (?:--\S+ )*(.+) \S+$", CONTAINERFILE, re.MULTILINE)
        for source in line.split()
    ]
    assert {"components", "dags", "features", "pipelines", "registry", "constraints.txt"} <= {*copied}
    assert [source for source in copied if not (ROOT / source).exists()] == []
    kept = (DEPLOY / "Containerfile.dockerignore").read_text(encoding="utf-8").split()
    assert [source for source in copied if f"!{source}" not in kept] == []
    assert "USER rankmill" in CONTAINERFILE


@pytest.mark.parametrize("name", OWN)
def test_a_service_of_our_image_runs_a_program_that_it_has(name: str) -> None:
    scripts = Path(__import__("sys").executable).parent
    assert (scripts / SERVICES[name]["command"][0]).exists()
