"""Does a process of a service follow what its file says, and keep what it follows apart?"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.platform.settings import Settings
from features.ground.errors import MissingError
from pipelines.cli.serve import _beside
from pipelines.run.service.parts import service_of
from pipelines.run.service.versions import StoredVersions
from registry.champion.ledger import Action, Ledger, Note
from registry.champion.trials import AGAIN, Trials
from registry.serving.wire.config import ServingConfig
from registry.serving.wire.pointed import Pointed
from registry.versions.client import RegistryState

PLAIN = {"name": "shop", "model": "shop_ranker"}


def config(**more: object) -> ServingConfig:
    return ServingConfig.model_validate({**PLAIN, **more})


def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aliases: dict[str, int], beside: str) -> StoredVersions:
    tags = {number: {"rankmill.digest": f"d{number}"} for number in (1, 2)}
    state = SimpleNamespace(state=lambda model: RegistryState(aliases, tags))
    monkeypatch.setattr(StoredVersions, "registry", state)
    return StoredVersions(Settings.at(tmp_path), config(), beside)


def test_a_challenger_is_another_version_than_the_one_that_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = {"champion": 1, "challenger": 2}
    assert stored(tmp_path, monkeypatch, both, "").pointed().version == 1
    assert stored(tmp_path, monkeypatch, both, "challenger").pointed() == Pointed(version=2, digest="d2")
    same = {"champion": 2, "challenger": 2}
    assert stored(tmp_path, monkeypatch, same, "").pointed().version == 2
    with pytest.raises(MissingError, match="is v2, which answers already"):
        stored(tmp_path, monkeypatch, same, "challenger").pointed()
    with pytest.raises(MissingError, match="no alias 'challenger'"):
        stored(tmp_path, monkeypatch, {"champion": 1}, "challenger").pointed()


def test_what_a_person_took_back_is_tried_on_nobody_until_that_is_lifted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The alias `challenger` stays where it was when its version, made champion, is rolled back."""
    ledger = Ledger((tmp_path / "ledger").as_uri())
    aliases = {"champion": 1, "challenger": 2}
    versions = stored(tmp_path, monkeypatch, aliases, "challenger")
    versions = replace(versions, trials=Trials(ledger, "shop_ranker"))

    def note(action: Action, version: int, **more: Any) -> None:
        ledger.append(
            Note(action=action, model="shop_ranker", version=version, digest=f"d{version}", actor="ada", **more)
        )

    note("promoted", 1)
    assert versions.pointed().version == 2
    aliases["champion"] = 2
    note("promoted", 2, previous=1, previous_digest="d1")
    with pytest.raises(MissingError, match="answers already"):
        versions.pointed()
    note("rolling back", 1, previous=2, previous_digest="d2")
    aliases["champion"] = 1
    with pytest.raises(MissingError, match="is being moved"):
        versions.pointed()
    note("rolled back", 1, previous=2, previous_digest="d2", settles=3)
    with pytest.raises(MissingError, match=r"v2 was rolled back on .* by ada: nobody is asked to try it until `rank"):
        versions.pointed()
    note("lifted", 2)
    assert versions.pointed().version == 2


def test_the_ledger_is_read_again_after_a_while(tmp_path: Path) -> None:
    ledger, now = Ledger((tmp_path / "ledger").as_uri()), [0.0]
    trials = Trials(ledger, "shop_ranker", lambda: now[0])
    trials.check(2, "d2")
    for version in (2, 1):  # somebody moves the alias in MLflow, and the ledger learns of it later
        ledger.append(Note(action="moved outside", model="shop_ranker", version=1, digest="d1"))
        ledger.append(Note(action="moved outside", model="shop_ranker", version=version, digest=f"d{version}"))
    trials.check(2, "d2")
    now[0] = AGAIN
    with pytest.raises(MissingError, match="v2 was taken back in MLflow"):
        trials.check(2, "d2")


def test_only_the_champion_is_remembered_for_a_start_without_a_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion, challenger = (stored(tmp_path, monkeypatch, {}, beside) for beside in ("", "challenger"))
    champion.remember(Pointed(version=1, digest="d1"))
    challenger.remember(Pointed(version=2, digest="d2"))
    assert champion.last() == Pointed(version=1, digest="d1") and challenger.last() is None


def test_shadow_and_canary_share_a_challenger_and_nothing_with_the_champion(tmp_path: Path) -> None:
    settings = Settings.at(tmp_path)
    made = service_of(config(log={}, shadow={"share": 0.1}, canary={"share": 0.1}), settings, None)
    assert made.shadow.challenger is made.canary.challenger and len(made.challengers) == 1
    assert made.challengers[0].lookup is not made.lookup
    assert made.challengers[0].lookup.cache is not made.lookup.cache
    two = service_of(config(log={}, shadow={"share": 0.1, "alias": "next"}, canary={"share": 0.1}), settings, None)
    assert len(two.challengers) == 2
    assert service_of(config(), settings, None).challengers == ()


def test_the_list_of_services_tells_of_challengers() -> None:
    told = {
        "shadow": {"alias": "challenger", "version": "2", "share": 0.1},
        "canary": {"alias": "next", "version": "", "share": 0.05, "stopped": ""},
    }
    assert _beside(told) == "; shadow v2 (10.0% of questions); canary none at next (5.0% of users)"
    stopped = {"canary": {"alias": "challenger", "version": "2", "share": 0.0, "stopped": "p99"}}
    assert _beside(stopped) == "; canary v2 (0.0% of users, given up: p99)"
    assert _beside({"role": "champion"}) == ""


ONE_THREAD = """
import sys, types
from pipelines.cli import serve as command

def answer(config, on):
    import numpy
    from threadpoolctl import threadpool_info
    print([pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"])
    return 0

assert "numpy" not in sys.modules, "numpy has looked how many threads it may take"
sys.modules["pipelines.run.service.processes"] = types.SimpleNamespace(serve=answer)
command.serve("movielens", None, None, None)
"""


def test_a_process_that_answers_multiplies_in_one_thread() -> None:
    """More threads would take all cores for products that are over before they are shared out."""
    free = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", ONE_THREAD], env=free, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["[1]"], done.stdout + done.stderr
