"""Does a ranker that reads vectors go on with those of today, and keep those of values that only it remembers?"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from components.data.attach_vectors.component import attach
from components.data.attach_vectors.config import Config as Attaching
from components.data.table_vectors import ATTACHED, read_table, write_table
from components.data.training_set import SPLITS, read_encoded, read_raw, read_schema, write_encoded
from components.ingest.item_vectors import Vectors
from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from components.train.continue_ranker.config import LAST_SEEN
from components.train.continue_ranker.dataset import regrow
from components.train.continue_ranker.likeness import Described, unlike
from components.train.frozen_vectors import give_vectors
from components.train.ranker_files import CONFIG, WEIGHTS, load_ranker
from components.train.train_ranker.loop import Replica, train
from components.train.train_ranker.start import carry_on
from features.declaration import FIRST
from features.encoding.files import FILES, read_encoder, write_encoder
from tests.unit.components.train.continue_ranker.conftest import FORGET, Days, job_of

COLD = 9_000_001
FIELD = "user_id"
"""Of items both days hold the same."""
PLAIN = Attaching(centre=False, scale="none")


def vector_of(item: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.random.default_rng(item).normal(size=4).astype(np.float32)


def with_vectors(folder: Path, to: Path, cold: list[int], maker: str = "m") -> Path:
    """Write a training set with a vector for each of its users and for some others."""
    encoder, schema = read_encoder(folder), read_schema(folder)
    items = sorted([*encoder.vocabularies[FIELD], *cold])
    given = Vectors(pa.array(items, pa.int64()), np.stack([vector_of(item) for item in items]))
    grown, held, _ = attach(encoder, FIELD, given, PLAIN, maker)
    shutil.copytree(folder, to)
    for split in SPLITS:
        encoded = read_encoded(folder, split, schema)
        features = grown.encode_slices(read_raw(folder, split, shared=True))
        encoded.features.update(features)
        (to / "encoded" / f"{split}.arrow").unlink()
        write_encoded(to / "encoded" / f"{split}.arrow", encoded)
    (to / "schema.json").write_text(schema.model_copy(update={"fields": grown.fields}).model_dump_json())
    write_encoder(grown, to)
    write_table(to, FIELD, held)
    (to / ATTACHED / f"{FIELD}.json").write_text("{}")
    return to


@pytest.fixture(scope="module")
def nights(days: Days, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """The ranker of the first day, the training set of the second, and that with the vocabularies of both."""
    root = tmp_path_factory.mktemp("vectors")
    first = root / "first"
    regrow(with_vectors(days.root / "alone", root / "alone", [COLD]), None, first, FORGET)
    job = job_of(first, root / "job", "dnn")
    ranker = RankerConfig.of("dnn", embedding="frozen", hidden=(16, 8))
    job = job.model_copy(update={"config": job.config.model_copy(update={"ranker": ranker})})
    train(job, Replica())
    kept = root / "ranker"
    kept.mkdir()
    shutil.copy(job.directory / WEIGHTS, kept / WEIGHTS)
    for file in ("schema.json", *FILES, LAST_SEEN):
        shutil.copy(first / file, kept / file)
    (kept / CONFIG).write_text(ranker.model_dump_json())
    second = with_vectors(days.second, root / "second", [COLD, COLD + 1])
    regrow(second, kept, root / "grown", FORGET)
    return kept, second, root / "grown"


def test_every_value_of_either_day_has_its_vector(nights: tuple[Path, Path, Path]) -> None:
    kept, second, grown = nights
    held, items = read_table(grown, FIELD), [*read_encoder(grown).vocabularies[FIELD]]
    carried = {*read_encoder(kept).vocabularies[FIELD]} - {*read_encoder(second).vocabularies[FIELD]}
    assert carried & {*items} and {COLD, COLD + 1} < {*items}
    np.testing.assert_array_equal(held.vectors[FIRST:], np.stack([vector_of(item) for item in items]))
    assert not held.vectors[:FIRST].any()
    assert {item for item, there in zip(items, held.learned[FIRST:], strict=True) if not there} == {COLD, COLD + 1}
    assert {field.content for field in read_schema(grown).fields if field.table == FIELD} == {4}


def test_it_answers_as_it_did_and_goes_on(nights: tuple[Path, Path, Path], tmp_path: Path) -> None:
    kept, _, grown = nights
    config = RankerConfig.model_validate_json((kept / CONFIG).read_text())
    ranker = build_ranker(config, read_schema(grown)).eval()
    give_vectors(ranker, grown)
    carry_on(ranker, read_encoder(grown), kept)
    raw = read_raw(grown, "test", shared=True)
    rows = [
        {
            name: torch.from_numpy(np.ascontiguousarray(values))
            for name, values in read_encoder(where).encode(raw).items()
        }
        for where in (kept, grown)
    ]
    both = [{name: of >= FIRST for name, of in row.items() if of.dtype == torch.int64} for row in rows]
    same = torch.stack([(one == both[1][name]).view(len(one), -1).all(dim=1) for name, one in both[0].items()]).all(
        dim=0
    )
    same &= both[0][FIELD]  # some have expired, others are new
    before, after = (
        made({n: v[same] for n, v in row.items()}) for made, row in zip((load_ranker(kept), ranker), rows, strict=True)
    )
    assert int(same.sum()) > 20
    close = (before["like"] - after["like"]).abs() < 1e-5
    assert bool(close.all())
    job = job_of(grown, tmp_path / "job", "dnn")
    job = job.model_copy(update={"config": job.config.model_copy(update={"ranker": config}), "continues": kept})
    train(job, Replica())
    assert (tmp_path / "job" / WEIGHTS).exists()


def test_vectors_of_another_maker_are_not_read(days: Days, nights: tuple[Path, Path, Path], tmp_path: Path) -> None:
    kept, _, _ = nights
    other = with_vectors(days.second, tmp_path / "other", [], maker="n")
    config = RankerConfig.model_validate_json((kept / CONFIG).read_text())
    reason = unlike(Described.read(kept), Described(config, read_schema(other), read_encoder(other)))
    assert reason is not None and reason.endswith("were made by m, today's by n")
