"""Do vectors of texts and of other models come in as they are, and stand beside the vocabulary row by row?"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pydantic import ValidationError
from safetensors.numpy import save_file

from components.data.attach_vectors.component import scaled
from components.data.attach_vectors.config import COMPONENT as ATTACH
from components.data.attach_vectors.config import Attached
from components.data.attach_vectors.config import Config as Attaching
from components.data.embed_text.config import COMPONENT as EMBED
from components.data.embed_text.config import Config as Embedding
from components.data.table_vectors import read_table
from components.data.training_set import read_encoded, read_schema
from components.ingest.ingest_vectors.config import COMPONENT as INGEST
from components.ingest.ingest_vectors.config import Config as Ingesting
from components.ingest.item_vectors import ITEM, Vectors, read_header, read_vectors, write_vectors
from components.platform.columns import Column, Columns
from components.platform.errors import BadInputError, MissingError
from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from components.testing.component import ComponentKit, Tried, try_component
from components.train.frozen_vectors import give_vectors
from components.train.ranker_files import load_ranker, write_weights
from features.declaration import FIRST
from features.encoding.files import read_encoder

START = datetime(2026, 1, 1, tzinfo=UTC)
TITLES = {
    1: "Star Wars", 2: "Star Trek", 3: "Love Story", 4: "Love Actually", 5: "Trek to Love", 6: "Star Story", 7: None,
}  # fmt: skip
GENRES = {1: ["space"], 2: ["space"], 3: ["romance"], 4: ["romance"], 5: ["romance", "space"], 6: ["space"], 7: None}


def write_events(folder: Path) -> None:
    """Write a row a day: items 1 to 5, the last of them again under another title, then 6 and 7."""
    items = [1, 2, 3, 4, 5, 5, 6, 7]
    times = [START + timedelta(days=day) for day in range(len(items))]
    titles = [TITLES[item] if day != 5 else "Edited later" for day, item in enumerate(items)]
    frame = pl.DataFrame(
        {"item_id": items, "title": titles, "genres": [GENRES[item] for item in items], "event_timestamp": times}
    ).with_columns(pl.col("event_timestamp").cast(pl.Datetime("us", "UTC")))
    frame.write_parquet(folder / "events.parquet")


def cosine(vectors: Mapping[int, Any], one: int, other: int) -> float:
    a, b = (np.asarray(vectors[item], dtype=np.float64) for item in (one, other))
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def by_item(folder: Path) -> dict[int, Any]:
    found = read_vectors(folder)
    return dict(zip(found.items.to_pylist(), found.values, strict=True))


class TestEmbedText(ComponentKit):
    component = EMBED

    def example(self, folders: Mapping[str, Path]) -> Mapping[str, Any]:
        write_events(folders["table"])
        return {"columns": ["title", "genres"], "width": 3, "fit_before": "2026-01-06T12:00:00Z"}

    def test_alike_texts_have_alike_vectors_and_a_later_item_too(self, tmp_path: Path) -> None:
        folder = self.run(tmp_path).outputs["vectors"]
        vectors, header = by_item(folder), read_header(folder)
        assert (header.items, header.width, header.dtype) == (6, 3, "float32"), "item 7 has no word"
        assert header.known_until == datetime(2026, 1, 6, 12, tzinfo=UTC)
        assert cosine(vectors, 6, 1) > 0.9 > 0.1 > cosine(vectors, 6, 4)
        assert header.made_by.startswith("tfidf ")

    def test_what_comes_later_is_not_learned_from(self, tmp_path: Path) -> None:
        early = self.run(tmp_path / "a").outputs["vectors"]
        words = (early / "vocabulary.json").read_text()
        assert "star" in words and "edited" not in words and "story" not in words, "only Love Story is early enough"
        late = self.run(tmp_path / "b", fit_before=None, fit_share=1.0).outputs["vectors"]
        assert '"story"' in (late / "vocabulary.json").read_text()
        assert read_header(early).made_by != read_header(late).made_by

    def test_what_an_earlier_run_learned_gives_its_vectors_again(self, tmp_path: Path) -> None:
        first = self.run(tmp_path / "a").outputs["vectors"]
        options = {"columns": ["title", "genres"], "reuse": str(first)}

        def example(folders: Mapping[str, Path]) -> Mapping[str, Any]:
            write_events(folders["table"])
            return options

        again = try_component(EMBED, example, tmp_path / "b").outputs["vectors"]
        assert (again / "vectors.parquet").read_bytes() == (first / "vectors.parquet").read_bytes()
        assert read_header(again) == read_header(first)
        options["reuse"] = str(tmp_path / "none")
        with pytest.raises(MissingError, match=r"holds no vocabulary\.json: name the `vectors` of an earlier run"):
            try_component(EMBED, example, tmp_path / "c")

    def test_directions_have_one_sign(self, tmp_path: Path) -> None:
        from safetensors.numpy import load_file

        folder = self.run(tmp_path).outputs["vectors"]
        kept = load_file(str(folder / "components.safetensors"))["components"]
        assert all(row[np.abs(row).argmax()] > 0 for row in kept)

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"columns": ["titel"]}, r"no column 'titel' \(did you mean 'title'\?\)"),
            ({"log": "catalogue"}, r"no log 'catalogue'"),
            ({"width": 60}, r"too few for 60 numbers: lower width"),
            ({"fit_before": "2020-01-01T00:00:00Z"}, r"no item is earlier than"),
        ],
    )
    def test_what_cannot_be_read_is_a_sentence(self, changed: dict[str, Any], message: str, tmp_path: Path) -> None:
        with pytest.raises(BadInputError, match=message):
            self.run(tmp_path, **changed)

    def test_a_model_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        def example(folders: Mapping[str, Path]) -> Mapping[str, Any]:
            write_events(folders["table"])
            path = {"encoder": "sentence_transformers", "path": "data://models/none"}
            return {"columns": ["title"], **path}

        with pytest.raises(BadInputError, match=r"pip install sentence-transformers|there is no folder .*models/none"):
            try_component(EMBED, example, tmp_path)


def test_a_model_in_a_wheel_encodes_texts_and_downloads_nothing(tmp_path: Path) -> None:
    pytest.importorskip("wordllama", reason="the extra `texts` is not installed")

    def example(folders: Mapping[str, Path]) -> Mapping[str, Any]:
        write_events(folders["table"])
        return {"columns": ["title", "genres"], "encoder": "wordllama"}

    made = [try_component(EMBED, example, tmp_path / name) for name in "ab"]
    assert made[0].digests == made[1].digests
    vectors = by_item(made[0].outputs["vectors"])
    assert len(vectors) == 6 and len(vectors[1]) == 256
    assert cosine(vectors, 1, 6) > cosine(vectors, 1, 4) + 0.3


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"encoder": "sentence_transformers"}, "needs path"),
        ({"path": "models/x"}, "does not read path"),
        ({"encoder": "wordllama", "width": 8}, "leave width out"),
        ({"fit_before": "2026-01-01T00:00:00Z", "fit_share": 0.5}, "leave one out"),
        ({"reuse": "v", "width": 8}, "leave width out"),
    ],
)
def test_a_contradiction_of_embed_text_is_told(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Embedding.model_validate({"columns": ["title"], **config})


def test_validate_knows_the_columns() -> None:
    table = Columns({"item_id": Column("int64"), "title": Column("string")})
    faults = [*EMBED.flow.asks(Embedding(columns=("title", "genre")), {"table": table})]
    assert [fault.where for fault in faults] == [("columns", 1)]
    dataset = Columns({"item_id": Column()})
    faults = [*ATTACH.flow.asks(Attaching(field="item"), {"dataset": dataset})]
    assert [fault.where for fault in faults] == [("field",)]


VALUES = np.arange(12, dtype=np.float32).reshape(4, 3) ** 2


def write_parquet(path: Path, ids: list[Any], values: np.ndarray[Any, Any]) -> None:
    lists = pa.array([[float(x) for x in row] for row in values], pa.list_(pa.float32()))
    pq.write_table(pa.table({"product": ids, "embedding": lists}), path)


class TestIngestVectors(ComponentKit):
    component = INGEST

    @pytest.fixture(autouse=True)
    def _files(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        self.folder = tmp_path_factory.mktemp("vectors")
        write_parquet(self.folder / "v.parquet", [30, 10, 20, 40], VALUES)

    def example(self, folders: Mapping[str, Path]) -> Mapping[str, Any]:
        file = str(self.folder / "v.parquet")
        return {"files": file, "item": "product", "vector": "embedding", "made_by": "a model of 2026"}

    def test_they_are_those_of_the_file_sorted_by_item(self, tmp_path: Path) -> None:
        found = by_item(self.run(tmp_path).outputs["vectors"])
        assert list(found) == [10, 20, 30, 40]
        np.testing.assert_array_equal(found[30], VALUES[0])

    def test_a_file_that_changed_is_read_again(self, tmp_path: Path) -> None:
        self.run(tmp_path)
        write_parquet(self.folder / "v.parquet", [30, 10, 20, 40], VALUES + 1)
        again = self.run(tmp_path)
        assert not again.result.cached
        np.testing.assert_array_equal(by_item(again.outputs["vectors"])[30], VALUES[0] + 1)

    def test_safetensors_hold_the_same(self, tmp_path: Path) -> None:
        save_file({"v": VALUES.astype(np.float16), "ids": np.array([3, 1, 2, 4])}, str(self.folder / "v.safetensors"))
        file = {"files": str(self.folder / "v.safetensors"), "vector": "v", "item": "ids"}
        folder = self.run(tmp_path / "a", **file, dtype="float16").outputs["vectors"]
        assert read_header(folder).dtype == "float16"
        np.testing.assert_array_equal(by_item(folder)[3], VALUES[0])
        texts = pa.table({"ids": ["c", "a", "b", "d"]})
        pq.write_table(texts, self.folder / "ids.parquet")
        named = by_item(self.run(tmp_path / "b", **file, ids=str(self.folder / "ids.parquet")).outputs["vectors"])
        np.testing.assert_array_equal(named["a"], VALUES[1])  # type: ignore[index]  # ids are texts here

    @pytest.mark.parametrize(
        ("ids", "values", "message"),
        [
            ([1, 2, 2, 4], VALUES, "1 items have several vectors, such as 2"),
            ([1, None, 2, 4], VALUES, "1 vectors have no 'product'"),
            ([1, 2, 3, 4], np.full((4, 3), np.inf), "the vectors of 4 items are not finite"),
        ],
    )
    def test_what_is_no_vector_is_a_sentence(self, ids: list[Any], values: Any, message: str, tmp_path: Path) -> None:
        write_parquet(self.folder / "v.parquet", ids, values)
        with pytest.raises(BadInputError, match=message):
            self.run(tmp_path)

    def test_of_several_the_last_may_count(self, tmp_path: Path) -> None:
        write_parquet(self.folder / "v.parquet", [1, 2, 2, 4], VALUES)
        found = by_item(self.run(tmp_path, duplicates="last").outputs["vectors"])
        np.testing.assert_array_equal(found[2], VALUES[2])

    def test_what_is_absent_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(BadInputError, match=r"no column 'embeding' \(did you mean 'embedding'\?\)"):
            self.run(tmp_path / "a", vector="embeding")
        with pytest.raises(MissingError, match=r"there is no file .*w\.parquet"):
            self.run(tmp_path / "b", files=str(self.folder / "w.parquet"))
        (self.folder / "v.npy").write_bytes(b"")
        with pytest.raises(BadInputError, match=r"must end with \.parquet or \.safetensors"):
            self.run(tmp_path / "c", files=str(self.folder / "v.npy"))
        with pytest.raises(ValidationError, match="ids belong to a safetensors file"):
            Ingesting(files="v.parquet", ids="ids.parquet", made_by="m")


@pytest.fixture
def vectors_of(training_set_dir: Path) -> Vectors:
    """Vectors of all items of the training set but one, and of three that it never held."""
    values = read_encoder(training_set_dir).vocabularies["item_id"].values
    ids = pa.concat_arrays([values.slice(1), pa.array([-5, 7_000_001, 7_000_002], values.type)])
    rng = np.random.default_rng(0)
    return Vectors(ids, rng.normal(1.0, 2.0, (len(ids), 6)).astype(np.float32))


class TestAttachVectors(ComponentKit):
    component = ATTACH

    @pytest.fixture(autouse=True)
    def _given(self, training_set_dir: Path, vectors_of: Vectors) -> None:
        self.dataset, self.vectors = training_set_dir, vectors_of

    def example(self, folders: Mapping[str, Path]) -> Mapping[str, Any]:
        shutil.copytree(self.dataset, folders["dataset"], dirs_exist_ok=True)
        write_vectors(folders["vectors"], self.vectors, "item_id", "test")
        return {}

    def made(self, tmp_path: Path, **changed: Any) -> Tried:
        return self.run(tmp_path, **changed)

    def test_vectors_stand_in_the_order_of_a_vocabulary_that_grew_by_cold_items(self, tmp_path: Path) -> None:
        folder = self.made(tmp_path).outputs["training_set"]
        schema, held = read_schema(folder), read_table(folder, "item_id")
        values = read_encoder(folder).vocabularies["item_id"].values.to_pylist()
        assert values == sorted(values) and {-5, 7_000_001, 7_000_002} <= {*values}
        report = Attached.model_validate_json((folder / "vectors" / "item_id.json").read_text())
        assert (report.cold, report.without, report.known) == (3, 1, len(values) - 4)
        assert report.named_without == (str(min(v for v in values if v > 0)),) or len(report.named_without) == 1
        assert not held.vectors[:FIRST].any()
        cold = [FIRST + values.index(item) for item in (-5, 7_000_001, 7_000_002)]
        assert np.flatnonzero(held.learned == 0).tolist() == sorted(cold) and held.vectors[cold].any(axis=1).all()
        with_them = {f.name for f in schema.fields if f.content}
        assert with_them == {f.name for f in schema.fields if f.table == "item_id"}
        assert {f.content for f in schema.fields if f.content} == {6}
        trained = held.vectors[(held.learned == 1) & held.vectors.any(axis=1)]
        np.testing.assert_allclose(trained.mean(axis=0), 0, atol=1e-5)
        assert float((trained**2).sum(axis=1).mean()) == pytest.approx(1.0, abs=1e-4)

    def test_rows_are_the_same_rows_with_other_numbers(self, tmp_path: Path) -> None:
        folder = self.made(tmp_path).outputs["training_set"]
        before, after = (
            read_encoded(where, "test", read_schema(where)).features["item_id"] for where in (self.dataset, folder)
        )
        values = [read_encoder(where).vocabularies["item_id"].values for where in (self.dataset, folder)]
        known = np.asarray(before) >= FIRST
        a, b = (
            v.take(pa.array(np.asarray(x)[known].astype(np.int64) - FIRST))
            for v, x in zip(values, (before, after), strict=True)
        )
        assert a.equals(b) and len(a)

    def test_without_cold_items_nothing_is_encoded_anew(self, tmp_path: Path) -> None:
        folder = self.made(tmp_path, cold=False).outputs["training_set"]
        assert read_encoder(folder).vocabularies == read_encoder(self.dataset).vocabularies
        for split in ("train", "test"):
            same = ((self.dataset if at else folder) / "encoded" / f"{split}.arrow" for at in (0, 1))
            one, other = (path.read_bytes() for path in same)
            assert one == other

    def test_a_ranker_takes_them_and_keeps_them(self, tmp_path: Path) -> None:
        folder = self.made(tmp_path).outputs["training_set"]
        config = RankerConfig.of("dnn", embedding="frozen")
        ranker = build_ranker(config, read_schema(folder)).eval()
        give_vectors(ranker, folder)
        held = read_table(folder, "item_id")
        assert torch.equal(ranker.state_dict()["embedding.content.0.vectors"], torch.from_numpy(held.vectors))
        cold = int(np.flatnonzero(held.learned == 0)[0])
        first = ranker.get_submodule("embedding").offsets["item_id"]  # type: ignore[union-attr,operator,index]  # a FieldEmbedding
        assert not ranker.get_parameter("embedding.weight")[first + cold].any()
        plain = build_ranker(RankerConfig.of("dnn"), read_schema(folder))
        give_vectors(plain, folder)
        assert not plain.get_parameter("embedding.weight")[first + cold].any(), "nothing random is said of it"
        kept = tmp_path / "ranker"
        kept.mkdir()
        write_weights(kept / "weights.safetensors", ranker)
        (kept / "ranker.json").write_text(config.model_dump_json())
        shutil.copy(folder / "schema.json", kept)
        rows = {
            n: torch.from_numpy(v)
            for n, v in read_encoded(folder, "test", read_schema(folder)).padded(slice(9)).items()
        }
        answers = load_ranker(kept)(rows)
        assert all(torch.equal(answers[name], values) for name, values in ranker(rows).items())

    def test_ids_that_are_others_are_refused(self, tmp_path: Path) -> None:
        self.vectors = Vectors(pa.array([9_000_001, 9_000_002]), np.eye(2, dtype=np.float32))
        with pytest.raises(BadInputError, match=r"0\.0% of the training rows have a 'item_id' with a vector"):
            self.made(tmp_path / "a")
        self.vectors = Vectors(pa.array(["a", "b"]), np.eye(2, dtype=np.float32))
        with pytest.raises(BadInputError, match="are numbers, those of the vectors texts"):
            self.made(tmp_path / "b")
        with pytest.raises(BadInputError, match=r"no field 'item' \(did you mean"):
            self.made(tmp_path / "c", field="item")
        with pytest.raises(BadInputError, match="has no vocabulary"):
            self.made(tmp_path / "d", field=next(f.name for f in read_schema(self.dataset).fields if not f.embedded))


def test_main_directions_are_kept_and_signs_do_not_depend_on_the_order() -> None:
    rng = np.random.default_rng(0)
    wide = (rng.normal(size=(200, 2)) @ rng.normal(size=(2, 30)) + 0.01 * rng.normal(size=(200, 30))).astype(np.float32)
    kept = scaled(wide, wide, Attaching(project=2))
    assert kept.shape == (200, 2)
    order = rng.permutation(200)
    np.testing.assert_allclose(scaled(wide[order], wide[order], Attaching(project=2)), kept[order], atol=1e-4)
    each = scaled(wide, wide, Attaching(scale="each"))
    np.testing.assert_allclose(each.std(axis=0), each.std(axis=0).mean(), rtol=1e-3)
    np.testing.assert_array_equal(scaled(wide, wide, Attaching(centre=False, scale="none")), wide)
    with pytest.raises(BadInputError, match="are equal"):
        scaled(np.ones((5, 3), np.float32), np.ones((5, 3), np.float32), Attaching())
    with pytest.raises(BadInputError, match="lower it"):
        scaled(wide, wide, Attaching(project=31))


def test_an_item_column_of_its_own_name_is_written(tmp_path: Path) -> None:
    write_vectors(tmp_path, Vectors(pa.array(["b", "a"]), np.eye(2, dtype=np.float32)), "sku", "m")
    assert pq.read_table(tmp_path / "vectors.parquet").column(ITEM).to_pylist() == ["a", "b"]
