"""Does adaptation learn a domain from its rows alone, never lose to its base, and leave a plain ranker behind?"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from components.data.training_set import SPLITS, EncodedSplit, read_encoded, read_schema, write_encoded
from components.platform.errors import BadInputError
from components.rankers.config import RankerConfig
from components.rankers.lora.adapter import load_adapter, merged
from components.rankers.lora.config import AdapterHeader, LoraConfig
from components.train.adapt_ranker.config import Config as AdaptConfig
from components.train.ranker_files import CONFIG, WEIGHTS, load_ranker
from components.train.train_ranker.config import Config, EpochReport
from components.train.train_ranker.job import Adaptation, TrainingJob, read_progress, read_size
from components.train.train_ranker.loop import Replica, train
from components.train.train_ranker.start import of_domain
from features.encoding.files import copy_encoder
from tests.worlds import BANDS, write_training_set

DOMAIN = BANDS[0]
RANKER = RankerConfig.of(name="fintrec", embedding_width=8, hidden=(16,), heads=2, layers=1, dropout=0.0)
Change = Callable[[EncodedSplit, np.ndarray[Any, Any]], EncodedSplit]
Adapt = Callable[..., tuple[Path, list[EpochReport]]]


def altered(source: Path, target: Path, change: Change, *splits: str) -> Path:
    """Copy a training set; `change` gets each split and which of its rows belong to the domain."""
    schema = read_schema(source)
    target.mkdir(parents=True)
    shutil.copyfile(source / "schema.json", target / "schema.json")
    copy_encoder(source, target)
    for name in SPLITS:
        rows = read_encoded(source, name, schema)
        inside = rows.domain == schema.domains.index(DOMAIN)
        write_encoded(target / "encoded" / f"{name}.arrow", change(rows, inside) if name in splits else rows)
    return target


def turned(rows: EncodedSplit, inside: np.ndarray[Any, Any]) -> EncodedSplit:
    """In the domain what others like is disliked."""
    like = np.where(inside, 1 - rows.labels["like"], rows.labels["like"]).astype(np.float32)
    return EncodedSplit(rows.features, {"like": like, "love": like * rows.labels["love"]}, rows.domain, rows.user)


def drawn_by_lot(rows: EncodedSplit, inside: np.ndarray[Any, Any]) -> EncodedSplit:
    rng = np.random.default_rng(0)
    like = np.where(inside, rng.integers(0, 2, rows.rows), rows.labels["like"]).astype(np.float32)
    return EncodedSplit(rows.features, {"like": like, "love": like * rows.labels["love"]}, rows.domain, rows.user)


def poisoned(rows: EncodedSplit, inside: np.ndarray[Any, Any]) -> EncodedSplit:
    """No number outside the domain is one."""
    popularity = np.where(inside[:, None], rows.features["popularity"], np.nan).astype(np.float32)
    return EncodedSplit(rows.features | {"popularity": popularity}, rows.labels, rows.domain, rows.user)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_training_set(tmp_path_factory.mktemp("source"), rows=4000, users=60, items=40)


@pytest.fixture(scope="module")
def base(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ranker trained on all rows, where every domain likes the same."""
    folder = tmp_path_factory.mktemp("base")
    config = Config(ranker=RANKER, epochs=4, batch_size=256, learning_rate=0.01)
    train(TrainingJob(name="base", dataset=source, directory=folder, config=config), Replica())
    (folder / CONFIG).write_text(RANKER.model_dump_json())
    (folder / "schema.json").write_text((source / "schema.json").read_text())
    return folder


@pytest.fixture
def adapt(base: Path, tmp_path: Path) -> Adapt:
    """Adapt in this process; return the job's folder and the epochs."""

    def run(dataset: Path, method: Any = "lora", lora: LoraConfig | None = None, **config: Any) -> Any:
        folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        settings = {"epochs": 4, "batch_size": 256, "learning_rate": 0.01} | config
        adaptation = Adaptation(ranker=base, domain=DOMAIN, method=method, lora=lora or LoraConfig())
        job = TrainingJob(
            name="adapt",
            dataset=dataset,
            directory=folder,
            config=Config(ranker=RANKER, **settings),
            adaptation=adaptation,
        )
        train(job, Replica())
        return folder, [progress.report for progress in read_progress(folder)]

    return run


def like_auc(report: EpochReport) -> float:
    return report.metrics["validation/like/auc"]


def best_of(history: list[EpochReport]) -> EpochReport:
    return [report for report in history if report.best][-1]


def mean_auc(report: EpochReport) -> float:
    return (report.metrics["validation/like/auc"] + report.metrics["validation/love/auc"]) / 2


@pytest.mark.parametrize("method", ["lora", "full", "scratch"])
def test_it_learns_a_domain_that_likes_the_opposite(method: str, source: Path, adapt: Adapt, tmp_path: Path) -> None:
    dataset = altered(source, tmp_path / "turned", turned, "train", "validation")
    _, history = adapt(dataset, method, epochs=12, patience=12, batch_size=128)
    assert like_auc(history[0]) < 0.45, "zero-shot it is wrong about everything"
    assert like_auc(best_of(history)) > 0.55
    assert history[0].epoch == 0
    assert history[0].best == (method != "scratch")
    assert [report.epoch for report in history] == list(range(len(history)))


@pytest.mark.parametrize("method", ["lora", "full"])
def test_what_teaches_nothing_leaves_the_base(
    method: str, source: Path, base: Path, adapt: Adapt, tmp_path: Path
) -> None:
    """Labels drawn by lot in training, true ones in validation: epoch 0 is the best, and its weights are kept."""
    folder, history = adapt(altered(source, tmp_path / "lot", drawn_by_lot, "train"), method, learning_rate=0.03)
    assert best_of(history).epoch == 0
    assert all(mean_auc(report) <= mean_auc(history[0]) for report in history)
    kept, original = load_file(str(folder / WEIGHTS)), load_file(str(base / WEIGHTS))
    assert all(torch.equal(kept[name], values) for name, values in original.items())


def test_rows_of_other_domains_are_not_even_looked_at(source: Path, adapt: Adapt, tmp_path: Path) -> None:
    plain, history = adapt(source)
    other, again = adapt(altered(source, tmp_path / "poisoned", poisoned, "train", "validation"))
    assert history == again
    assert (plain / WEIGHTS).read_bytes() == (other / WEIGHTS).read_bytes()


def test_rows_of_a_domain_are_its_rows(source: Path) -> None:
    schema = read_schema(source)
    rows = read_encoded(source, "train", schema)
    parts = [of_domain(rows, schema, band) for band in BANDS]
    assert sum(part.rows for part in parts) == rows.rows
    for code, part in enumerate(parts):
        assert (part.domain == code).all()
        assert len(np.unique(part.features["age_band"])) == 1
        assert {len(values) for values in (*part.features.values(), *part.labels.values(), part.user)} == {part.rows}


def test_an_adapter_beside_the_base_is_the_merged_ranker(
    source: Path, base: Path, adapt: Adapt, tmp_path: Path
) -> None:
    dataset = altered(source, tmp_path / "turned", turned, "train", "validation")
    folder, _ = adapt(dataset, lora=LoraConfig(rank=2, targets="all"))
    ranker, schema = load_ranker(base), read_schema(source)
    header = load_adapter(ranker, folder, schema)
    assert header == AdapterHeader.model_validate(json.loads((folder / "adapter.json").read_text()))
    assert (header.domain, header.rows) == (DOMAIN, ("age_band", "item_id"))
    assert header.parameters == sum(read_size(folder).values())
    together, kept = merged(ranker).state_dict(), load_file(str(folder / WEIGHTS))
    assert all(torch.equal(kept[name], values) for name, values in together.items())
    assert (folder / "adapter.safetensors").stat().st_size < (base / WEIGHTS).stat().st_size


@pytest.mark.parametrize("method", ["full", "scratch"])
def test_without_lora_there_is_no_adapter_and_everything_trains(
    method: str, source: Path, base: Path, adapt: Adapt
) -> None:
    folder, _ = adapt(source, method, epochs=1)
    assert not list(folder.glob("adapter*"))
    assert sum(read_size(folder).values()) == sum(parameter.numel() for parameter in load_ranker(base).parameters())


def test_a_domain_without_training_rows_is_a_sentence(source: Path, adapt: Adapt, tmp_path: Path) -> None:
    def emptied(rows: EncodedSplit, inside: np.ndarray[Any, Any]) -> EncodedSplit:
        return EncodedSplit(rows.features, rows.labels, np.where(inside, -1, rows.domain), rows.user)

    with pytest.raises(BadInputError, match=f"domain '{DOMAIN}' has no row in the training split: choose another"):
        adapt(altered(source, tmp_path / "emptied", emptied, "train"))


def test_the_adapters_shape_belongs_to_lora() -> None:
    assert AdaptConfig(domain="a", method="full").lora == LoraConfig()
    with pytest.raises(ValidationError, match=r"method 'full' trains no adapter: leave lora out"):
        AdaptConfig.model_validate({"domain": "a", "method": "full", "lora": {"rank": 4}})
