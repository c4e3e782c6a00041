"""Does the second day of real MovieLens-100K continue the first, up to what is served, and again when run again?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import torch

from components.data.training_set import read_raw
from components.platform.artifacts import Predecessor
from components.platform.errors import BadInputError
from components.platform.execute import StageRequest, StageResult, execute
from components.platform.settings import Settings
from components.platform.store.publish import open_store
from components.train.continue_ranker import component
from components.train.continue_ranker.config import Continuation
from components.train.continue_ranker.vocabulary import seen_in
from components.train.ranker_files import load_ranker
from components.train.take_champion.config import TAKEN, Taken
from features.declaration import FIRST, UNKNOWN, Window
from features.encoding.files import FILES, read_encoder
from features.services.served import FEATURES
from registry.champion.ledger import Ledger
from registry.champion.promotion import Promotions, Request
from registry.serving.answers.answer import answer
from registry.serving.model.served_model import ServedModel
from registry.versions.client import Registry
from tests.homes import ready
from tests.ingesting import MOVIELENS
from tests.trained import publish
from tests.unit.registry.tiny_models import write_model

pytestmark = [pytest.mark.engine, pytest.mark.long, pytest.mark.timeout(900)]
MODEL = "films"
FIRST_DAY = datetime(1998, 3, 31, tzinfo=UTC)
KNOBS = {
    "ranker": {"name": "esmm", "embedding_width": 8, "hidden": [32, 16]},
    "learning_rate": 0.002,
    "epochs": 1,
    "forget_after_days": 29,
}


class Interrupted(Exception):
    """Stands for whatever ends a stage."""


def interrupted(grown: Path, ranker: Path, dataset: Path) -> Path:
    """End the stage when the training set is on its way."""
    handed_over(grown, ranker, dataset)
    raise Interrupted


handed_over = component._handed_over


@dataclass
class Shop:
    """A home in which days of MovieLens are run stage by stage."""

    settings: Settings
    folder: Path

    def run(self, uses: str, end: datetime, config: Mapping[str, Any], **inputs: Any) -> StageResult:
        window = Window(start=end - timedelta(days=30), end=end)
        request = StageRequest(
            component=uses, config=dict(config), inputs=inputs, window=window, pipeline="films", stage=uses
        )
        return execute(request, settings=self.settings)

    def datasets(self, *ends: datetime) -> list[Any]:
        """Return a training set per day; features as of each row come from the same tables."""
        events = [self.run("ingest_table", end, MOVIELENS).outputs["events"] for end in ends]
        service = {"feature_service": "movielens_ranker"}
        features = self.run("materialize_features", ends[-1], service | {"online": False}, table=events[-1])
        asked = service | {"feedback": ["like", "love"], "domain": "age_band", "encode": {"item_id": {"min_count": 3}}}
        tables = features.outputs["feature_tables"]
        built = [self.run("build_training_set", ends[-1], asked, events=table, features=tables) for table in events]
        return [result.outputs["training_set"] for result in built]

    def take(self, end: datetime, dataset: Any) -> Any:
        return self.run("take_champion", end, {"model": MODEL}, dataset=dataset).outputs["predecessor"]

    def train(self, end: datetime, dataset: Any, before: Any, **config: Any) -> StageResult:
        return self.run("continue_ranker", end, {**KNOBS, **config}, dataset=dataset, before=before)

    def promote(self, result: StageResult) -> None:
        """Register a graph that stands in for the ranker's own, and make it the champion."""
        registry = Registry(self.settings.tracking_uri, self.settings.mlflow_artifacts)
        directory = write_model(self.folder / result.key, self.files(result, "training_set"))
        ranker = result.outputs["ranker"].digest
        version = registry.register(directory, MODEL, digest=result.key, ranker_digest=ranker, report_digest="e")
        promotions = Promotions(registry, Ledger(self.settings.ledger))
        present = promotions.champion(MODEL)
        promotions.promote(
            MODEL,
            version.version,
            Request(actor="test", reason="test"),
            decided_on=present,
        )

    def files(self, result: StageResult, output: str) -> Path:
        return open_store(self.settings).fetch(result.outputs[output].load())


@dataclass(frozen=True)
class Days:
    """What the two days made.

    Attributes:
        shop: where.
        ends: of the two windows.
        datasets: of the two days.
        first: a ranker of the first day.
        taken: what the second day found.
        second: its ranker.
        gone: a champion that cannot be had.
        alone: the second day's ranker with that one.
    """

    shop: Shop
    ends: tuple[datetime, datetime]
    datasets: tuple[Any, Any]
    first: StageResult
    taken: Any
    second: StageResult
    gone: Any
    alone: StageResult


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory, movielens_raw: Path, engines: Path) -> Days:
    folder = tmp_path_factory.mktemp("films")
    shop = Shop(replace(ready(folder / "home", engines), data=movielens_raw), folder)
    ends = (FIRST_DAY, FIRST_DAY + timedelta(days=7))
    one, two = shop.datasets(*ends)
    nothing = shop.take(ends[0], one)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(component, "_handed_over", interrupted)
        shop.train(ends[0], one, nothing, epochs=3)
    first = shop.train(ends[0], one, nothing, epochs=3)
    shop.promote(first)
    taken = shop.take(ends[1], two)
    lost = folder / "lost"
    lost.mkdir()
    (lost / TAKEN).write_text(Taken(reason="its ranker is gone", as_expected=False).model_dump_json())
    gone = publish(shop.settings, Predecessor, lost)
    alone = shop.train(ends[1], two, gone, otherwise="fresh")
    return Days(shop, ends, (one, two), first, taken, shop.train(ends[1], two, taken), gone, alone)


def reports(days: Days, result: StageResult) -> dict[int, dict[str, float]]:
    history = json.loads((days.shop.files(result, "ranker") / "history.json").read_text())
    return {report["epoch"]: report["metrics"] for report in history}


def test_a_stage_that_dies_while_it_hands_over_goes_on_without_training_again(days: Days) -> None:
    """The fixture interrupts the first day's stage after training; what it left was enough, and is gone."""
    assert [*reports(days, days.first)] == [1, 2, 3]
    assert [path for path in (days.shop.settings.home / "training").iterdir() if path.is_dir()] == []
    names = {path.name for path in days.shop.files(days.first, "training_set").iterdir()}
    assert names == {"raw", "report.json", "schema.json", FEATURES, *FILES, "manifest.json"}


def test_the_first_day_starts_from_nothing_and_says_so(days: Days) -> None:
    assert f"esmm starts from nothing: {MODEL!r} has no champion yet" in days.first.notes
    made = Continuation.model_validate_json((days.shop.files(days.first, "ranker") / "continued.json").read_text())
    assert (made.ranker_digest, sum(table.carried for table in made.tables)) == ("", 0)


def test_the_second_day_is_ahead_of_a_start_from_nothing(days: Days) -> None:
    """Same rows, same seed, same epoch; without carrying on (the control) it is behind."""
    going, fresh = reports(days, days.second), reports(days, days.alone)
    assert [*going] == [0, 1] and [*fresh] == [1]
    for task in ("like", "love"):
        name = f"validation/{task}/log_loss"
        assert going[1][name] < fresh[1][name] - 0.005


def test_the_report_says_what_became_of_each_table(days: Days) -> None:
    made = Continuation.model_validate_json((days.shop.files(days.second, "ranker") / "continued.json").read_text())
    assert made.ranker_digest == days.first.outputs["ranker"].digest and not made.optimiser and not made.reason
    encoders = [read_encoder(days.shop.files(result, "ranker")) for result in (days.first, days.second)]
    for table in made.tables:
        before, after = ({*encoder.vocabularies[table.table]} for encoder in encoders)
        assert (table.rows, table.carried) == (len(after), len(after & before))
        assert (table.new, table.expired) == (len(after - before), len(before - after))
    films, users = (next(t for t in made.tables if t.table == table) for table in ("item_id", "user_id"))
    assert min(films.carried, films.new, films.not_admitted) > 0
    # Training ends on 2 April. Of the users who rated in its first window only, 18 did so last on 1 to 4 March.
    assert (users.expired, users.new) == (18, 75)
    assert any(
        note.startswith(f"item_id: {films.carried:,} carried on, {films.new:,} new") for note in days.second.notes
    )


def test_an_id_of_the_first_day_alone_is_served_from_its_own_row(days: Days) -> None:
    shop, end = days.shop, days.ends[1]
    ranker, dataset = days.second.outputs["ranker"], days.second.outputs["training_set"]
    exported = shop.run("export_onnx", end, {"provider": "cpu"}, ranker=ranker, dataset=dataset)
    served = ServedModel.open(shop.files(exported, "onnx_model"), "cpu")
    today = read_encoder(open_store(shop.settings).fetch(days.datasets[1].load()))
    known = [*served.encoder.vocabularies["user_id"]]
    train = shop.files(days.second, "training_set") / "raw" / "train.parquet"
    read = seen_in(train, today, "event_timestamp").tables["user_id"]["value"]
    # 13 users rated last on 5 to 7 March, before the second window.
    remembered, *others = sorted({*known} - {*today.vocabularies["user_id"]} - {*read})
    assert len(others) == 12
    row = read_raw(shop.files(days.second, "training_set"), "test").slice(0, 1)

    def asked_by(number: int) -> Any:
        return row.set_column(row.column_names.index("user_id"), "user_id", [[number]])

    module = load_ranker(shop.files(days.second, "ranker"))
    at = [*known].index(remembered) + FIRST
    inputs = {name: torch.from_numpy(values) for name, values in served.encoder.encode(asked_by(remembered)).items()}
    assert inputs["user_id"].tolist() == [at]
    assert today.encode(asked_by(remembered))["user_id"].tolist() == [UNKNOWN]
    with torch.no_grad():
        expected = float(module(inputs)["like"])
        unknown = float(module(inputs | {"user_id": torch.tensor([UNKNOWN])})["like"])
    assert answer(served, asked_by(remembered)).tasks["like"][0] == pytest.approx(expected, abs=1e-6)
    assert answer(served, asked_by(10**6)).tasks["like"][0] == pytest.approx(unknown, abs=1e-6)
    assert abs(expected - unknown) > 1e-5
    weights = module.state_dict()["embedding.weight"]
    first = load_ranker(shop.files(days.first, "ranker"))
    old = read_encoder(shop.files(days.first, "ranker"))
    before = first.embedding.offsets["user_id"] + [*old.vocabularies["user_id"]].index(remembered) + FIRST
    now = weights[module.embedding.offsets["user_id"] + at]
    assert torch.equal(now, first.state_dict()["embedding.weight"][before]), "no row of the second day has changed it"
    assert now.any()


def test_the_day_that_is_run_again_after_its_promotion_gives_the_same_ranker_from_the_cache(days: Days) -> None:
    days.shop.promote(days.second)
    taken = days.shop.take(days.ends[1], days.datasets[1])
    assert taken.digest == days.taken.digest, "its own model is not what it continues"
    again = days.shop.train(days.ends[1], days.datasets[1], taken)
    assert again.cached and again.outputs == days.second.outputs


def test_a_champion_of_another_architecture_is_refused_before_anything_starts(days: Days) -> None:
    wider = {"ranker": KNOBS["ranker"] | {"hidden": [48, 16]}}  # type: ignore[operator]  # it is a dict
    with pytest.raises(BadInputError, match="the champion cannot be continued: its ranker has another hidden"):
        days.shop.train(days.ends[1], days.datasets[1], days.taken, **wider)


def test_what_cannot_be_continued_starts_from_nothing_only_where_that_is_said(days: Days) -> None:
    with pytest.raises(BadInputError, match="its ranker is gone; set otherwise: fresh"):
        days.shop.train(days.ends[1], days.datasets[1], days.gone)
    assert "esmm starts from nothing: its ranker is gone" in days.alone.notes
