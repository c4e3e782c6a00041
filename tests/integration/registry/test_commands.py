"""Do the commands about models tell one story, and answer nonsense in one sentence?"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from components.platform.errors import BadInputError, MissingError
from components.platform.settings import Settings
from registry.versions.client import CHAMPION, Registry
from tests import commands
from tests.integration.registry.mill import put

pytestmark = pytest.mark.engine


def test_the_commands_tell_one_story(rankmill: Callable[..., str], registry: Registry, models: dict[str, Path]) -> None:
    assert "no model is registered yet" in rankmill("models")
    for number, name in enumerate(("good", "similar", "bad"), start=1):
        put(registry, models[name], f"digest-{number}")
    assert "nothing has happened" in rankmill("history", "tiny_ranker")
    assert "champion v1 (was none)" in rankmill("promote", "tiny_ranker", "1", "--yes")
    assert "Aborted" in rankmill("promote", "tiny_ranker", "2", answer="n\n")
    assert "champion v2 (was v1)" in rankmill("promote", "tiny_ranker", "2", "--reason", "demo", answer="y\n")
    assert "champion v3 (was v2)" in rankmill("promote", "tiny_ranker", "3", "-y")
    assert "nothing changed" in rankmill("promote", "tiny_ranker", "3")
    [row] = [line for line in rankmill("models").splitlines() if "champion" in line]
    assert " v3 " in row
    assert "champion v2 (was v3), rolled back" in rankmill("rollback", "tiny_ranker")
    assert "champion v1 (was v2), rolled back" in rankmill("rollback", "tiny_ranker", "--to", "1", "--reason", "worse")
    assert registry.version("tiny_ranker", CHAMPION).version == 1
    shown = rankmill("history", "tiny_ranker")
    assert shown.count("rolled back  ") == 2
    assert shown.count("stays out of promotion by pipelines until lifted") == 2
    assert "promoting" not in shown
    assert "gate overridden: demo" in shown
    entries = json.loads(rankmill("history", "tiny_ranker", "--json"))
    assert entries[-1]["action"] == "rolled back"
    assert "UTC: v1" in rankmill("history", "tiny_ranker", "--at", "2100-01-01")
    assert "UTC: none" in rankmill("history", "tiny_ranker", "--at", "2020-01-01")


FOREIGN = (
    "churn-model", "Churn", "bob's model", 'say "hi"', "a.b", "[bold]x", "näme", "模型", "a\\b", "%41 %",
    " x ", "<b>|`x`", "--help", "x" * 256, "'; drop table model_versions; --", "line\nbreak", "tiny-ranker", "1",
)  # fmt: skip
"""Names that MLflow allows."""


def test_models_of_others_stop_no_command(registry: Registry, home: Settings, models: dict[str, Path]) -> None:
    """The commands themselves, in processes of their own, on a database with models of every name."""
    from mlflow import MlflowClient

    put(registry, models["good"], "d1")
    client = MlflowClient(registry.tracking_uri, registry.tracking_uri)
    for name in FOREIGN:
        client.create_registered_model(name)
        client.create_model_version(name, "s3://elsewhere/model", tags={"rankmill.memory": "no JSON"})
        client.set_registered_model_alias(name, CHAMPION, "1")
    client.create_registered_model("empty one")

    def said(*words: str) -> tuple[int, str]:
        variables = {"RANKMILL_HOME": str(home.home), "COLUMNS": "400"}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RANKMILL_", "MLFLOW_"))}
        done = commands.rankmill(*words, env=kept | variables)
        assert "Traceback" not in done.stdout + done.stderr
        return done.returncode, done.stdout + done.stderr

    code, listing = said("models")
    assert code == 0
    assert listing.count("not ours") == len(FOREIGN)
    longest = max(FOREIGN, key=len)
    assert [name for name in FOREIGN if name.splitlines()[0].strip() not in listing and name != longest] == []
    assert listing.count("x") > len(longest), "a name is folded, not cut"
    assert said("models", "bob's model")[0] == 0
    code, listing = said("gc", "--dry-run")
    assert code == 0 and "would be deleted; nothing was" in listing
    for name in ("bob's model", "%41 %", "x" * 256, "line\nbreak"):
        code, listing = said("history", name)
        assert code == 0 and "has no version that Rankmill registered: it is not ours" in listing
    assert said("history", "empty one")[0] == 0
    assert "nothing has happened to tiny_ranker yet" in said("history", "tiny_ranker")[1]
    assert not (home.home / "ledger").exists()


def test_the_commands_answer_nonsense_in_one_sentence(
    rankmill: Callable[..., str], registry: Registry, home: Settings, models: dict[str, Path]
) -> None:
    put(registry, models["broken"], "d1")
    for words, error, sentence in (
        (("history", "nobody"), MissingError, "no registered model 'nobody'"),
        (("promote", "tiny_ranker", "9", "-y"), MissingError, "no version 9"),
        (("promote", "tiny_ranker", "1", "-y"), BadInputError, "parity of tiny_ranker v1 failed"),
        (("rollback", "tiny_ranker"), MissingError, "no earlier champion than none"),
    ):
        with pytest.raises(error, match=sentence) as failure:
            rankmill(*words)
        assert "\n" not in str(failure.value)
    (home.home / "mlflow" / "mlflow.db").unlink()
    with pytest.raises(MissingError, match="rankmill run"):
        rankmill("models")


def test_history_knows_offsets_and_what_mlflow_says_now(
    rankmill: Callable[..., str], registry: Registry, models: dict[str, Path]
) -> None:
    from mlflow import MlflowClient

    for number, name in enumerate(("good", "similar"), start=1):
        put(registry, models[name], f"digest-{number}")
        rankmill("promote", "tiny_ranker", str(number), "-y")
    since = datetime.fromisoformat(json.loads(rankmill("history", "tiny_ranker", "--json"))[1]["effective_at"])
    east = timezone(timedelta(hours=2))
    before, after = ((since + timedelta(minutes=step)).astimezone(east).isoformat() for step in (-30, 30))
    assert "UTC: none" in rankmill("history", "tiny_ranker", "--at", before)
    assert "UTC: v2" in rankmill("history", "tiny_ranker", "--at", after)
    client = MlflowClient(registry.tracking_uri, registry.tracking_uri)
    client.set_registered_model_alias("tiny_ranker", CHAMPION, "1")
    for words in ((), ("--at", "2100-01-01")):
        said = rankmill("history", "tiny_ranker", *words)
        assert "the champion in MLflow is v1 now, the ledger's last is v2: the alias was changed in MLflow" in said
    client.delete_registered_model_alias("tiny_ranker", CHAMPION)
    assert "the champion in MLflow is none now, the ledger's last is v2" in rankmill("history", "tiny_ranker")


def test_a_rollback_is_shown_until_it_is_lifted(
    rankmill: Callable[..., str], registry: Registry, models: dict[str, Path]
) -> None:
    for number, name in enumerate(("good", "similar"), start=1):
        put(registry, models[name], f"digest-{number}")
        rankmill("promote", "tiny_ranker", str(number), "-y")
    assert "until `rankmill promote tiny_ranker 2 --lift`" in rankmill("rollback", "tiny_ranker")
    for words in (("models",), ("history", "tiny_ranker")):
        assert "rolled back on " in rankmill(*words)
    assert "pipelines may promote v2 again" in rankmill("promote", "tiny_ranker", "2", "--lift")
    assert "rolled back on" not in rankmill("models")
    assert "lifted" in rankmill("history", "tiny_ranker")
