"""Do codes of content say what they should, the same each time, and is an item that nobody saw known by them?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pydantic import ValidationError

from components.data.assign_semantic_ids.component import Learned, learn, pieced
from components.data.assign_semantic_ids.config import COMPONENT, Codebook, Config, columns_of
from components.data.assign_semantic_ids.quantise import assigned, kmeans, nearest
from components.data.assign_semantic_ids.rqvae import quantised
from components.ingest.item_vectors import Vectors, write_vectors
from components.platform.columns import Column, Columns
from components.platform.errors import BadInputError, MissingError
from components.testing.component import ComponentKit, try_component
from tests.content_worlds import ITEMS, KNOWN, content_world, learned

BOOKS = [np.array(book, np.float32) for book in ([[1, 0], [0, 1], [-1, -1]], [[0.3, 0], [0, 0.3], [-0.2, -0.2]])]
Z = np.array([[1.2, 0.1], [-0.7, -1.3], [0.1, 0.9]], np.float32)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the matrices are too small for two
    yield
    torch.set_num_threads(threads)


def test_residual_search_finds_the_codes_of_the_paper() -> None:
    codes, errors = assigned(Z, BOOKS)
    assert codes.tolist() == [[0, 0], [2, 0], [1, 0]]
    np.testing.assert_allclose(errors, np.mean([[0.05, 0.02], [0.18, 0.09], [0.02, 0.05]], axis=0), atol=1e-6)
    found = quantised(torch.from_numpy(Z), torch.from_numpy(np.stack(BOOKS)), beta=0.25)
    assert found.codes.tolist() == codes.tolist()
    torch.testing.assert_close(found.sums, torch.tensor([[1.3, 0], [-0.7, -1], [0.3, 1]]))
    torch.testing.assert_close(found.loss, torch.tensor([0.0875, 0.3375, 0.0875]), atol=1e-6, rtol=0)
    assert float(found.loss.mean()) == pytest.approx(0.1708333333, abs=1e-6)


def test_pieces_number_codes_as_the_paper_does() -> None:
    codes = np.array([[0, 0], [2, 0], [1, 0]])
    assert pieced(codes, 3, "unigram").tolist() == codes.tolist()
    assert pieced(codes, 3, "bigram").tolist() == [[0], [6], [3]]
    assert pieced(codes, 3, "prefix").tolist() == [[0, 0], [2, 6], [1, 3]]
    assert pieced(np.array([[1, 2, 3, 4]]), 5, "prefix").tolist() == [[1, 7, 38, 194]]
    assert columns_of("sid", 3, "prefix") == ("sid_1", "sid_12", "sid_123")
    assert columns_of("sid", 4, "bigram") == ("sid_12", "sid_34")
    assert columns_of("sid", 2, "unigram") == ("sid_1", "sid_2")


def test_groups_far_apart_are_found_and_no_group_is_empty() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(8, 4)) * 20
    data = (truth[rng.integers(8, size=400)] + rng.normal(size=(400, 4))).astype(np.float32)
    centres = kmeans(data, 8, np.random.default_rng(1))
    assert len(np.unique(nearest(data, centres))) == 8
    assert float(((data - centres[nearest(data, centres)]) ** 2).sum(axis=1).mean()) < 2 * 4
    few = np.repeat(np.eye(3, dtype=np.float32), 5, axis=0)
    assert np.isfinite(kmeans(few, 4, np.random.default_rng(0))).all(), "more groups than different vectors"


def events(folder: Path, items: list[int]) -> None:
    times = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=i) for i in range(len(items))]
    frame = pl.DataFrame({"item_id": items, "event_timestamp": times})
    frame.with_columns(pl.col("event_timestamp").cast(pl.Datetime("us", "UTC"))).write_parquet(
        folder / "events.parquet"
    )
    (folder / "window.json").write_text("{}")


CONTENT = content_world(0).content[:80]


class TestAssignSemanticIds(ComponentKit):
    component = COMPONENT
    maker = "a model"
    order = np.arange(80)

    def example(self, folders: Mapping[str, Path]) -> Mapping[str, Any]:
        events(folders["table"], [*range(60), 5, 6, 7, 79, 1000])
        vectors = Vectors(pa.array(self.order), CONTENT[self.order])
        write_vectors(folders["vectors"], vectors, "item_id", self.maker)
        return {"levels": 2, "codes": 5, "fit_before": "2026-01-01T01:00:00Z"}

    def codes_of(self, folder: Path) -> dict[int, tuple[int, int]]:
        table = pq.read_table(folder / "events.parquet")
        columns = (table.column(name).to_pylist() for name in ("item_id", "sid_1", "sid_12"))
        return {item: (a, b) for item, a, b in zip(*columns, strict=True)}

    def test_all_else_of_the_table_stays_and_codes_start_at_one(self, tmp_path: Path) -> None:
        made = self.run(tmp_path)
        table = pq.read_table(made.outputs["events"] / "events.parquet")
        events(tmp_path, [*range(60), 5, 6, 7, 79, 1000])
        assert table.drop_columns(["sid_1", "sid_12"]).equals(pq.read_table(tmp_path / "events.parquet"))
        assert (made.outputs["events"] / "window.json").exists()
        codes = self.codes_of(made.outputs["events"])
        assert codes[1000] == (0, 0), "it has no vector"
        assert all(1 <= a <= 5 and (b - 1) // 5 == a - 1 for item, (a, b) in codes.items() if item != 1000)
        book = Codebook.model_validate_json((made.outputs["codebook"] / "codebook.json").read_text())
        assert (book.items, book.codes, book.levels, book.method) == (80, 5, 2, "kmeans")
        assert book.known_until == datetime(2026, 1, 1, 0, 59, tzinfo=UTC)
        assert book.use[1].error < book.use[0].error < 1 and all(use.used == 5 for use in book.use)

    def test_the_order_of_items_does_not_change_their_codes(self, tmp_path: Path) -> None:
        one = self.codes_of(self.run(tmp_path / "a").outputs["events"])
        self.order = np.random.default_rng(0).permutation(80)
        assert self.codes_of(self.run(tmp_path / "b").outputs["events"]) == one

    def test_later_items_are_not_learned_from(self, tmp_path: Path) -> None:
        book, later = (
            json.loads((made.outputs["codebook"] / "codebook.json").read_text())
            for made in (self.run(tmp_path / "a"), self.run(tmp_path / "b", fit_before="2026-01-01T01:04:00Z"))
        )
        assert book["digest"] != later["digest"], "item 79 is in"

    @pytest.mark.parametrize("method", ["kmeans", "rqvae"])
    def test_an_earlier_codebook_gives_the_same_codes_and_another_maker_is_refused(
        self, method: str, tmp_path: Path
    ) -> None:
        sizes = {"rqvae": {"hidden": [16], "latent": 4, "epochs": 3}} if method == "rqvae" else {}
        first = self.run(tmp_path / "a", method=method, **sizes)

        def again(folders: Mapping[str, Path]) -> Mapping[str, Any]:
            self.example(folders)
            return {"reuse": str(first.outputs["codebook"])}

        second = try_component(COMPONENT, again, tmp_path / "b")
        assert self.codes_of(second.outputs["events"]) == self.codes_of(first.outputs["events"])
        books = [json.loads((made.outputs["codebook"] / "codebook.json").read_text()) for made in (first, second)]
        assert books[0] == books[1] and books[0]["method"] == method
        self.maker = "another model"
        with pytest.raises(BadInputError, match=r"learned from vectors by 'a model'.* by 'another model'"):
            try_component(COMPONENT, again, tmp_path / "c")

    def test_what_cannot_be_is_a_sentence(self, tmp_path: Path) -> None:
        with pytest.raises(BadInputError, match=r"20 codes for 60 items to learn from, fewer than four for each"):
            self.run(tmp_path / "a", codes=20)
        with pytest.raises(BadInputError, match=r"no column 'item' \(did you mean 'item_id'\?\)"):
            self.run(tmp_path / "b", key="item")
        with pytest.raises(BadInputError, match="no item with a vector is earlier than"):
            self.run(tmp_path / "c", fit_before="2020-01-01T00:00:00Z")

        def nothing(folders: Mapping[str, Path]) -> Mapping[str, Any]:
            self.example(folders)
            return {"reuse": str(tmp_path)}

        with pytest.raises(MissingError, match="holds no codebook: name the `codebook` of an earlier run"):
            try_component(COMPONENT, nothing, tmp_path / "d")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"pieces": "bigram", "levels": 3}, "make it even"),
        ({"levels": 8, "codes": 1000}, "more values than a column holds"),
        ({"rqvae": {}}, "leave it out"),
        ({"reuse": "book", "codes": 8}, "leave codes out"),
        ({"fit_before": "2026-01-01T00:00:00Z", "fit_share": 0.5}, "leave one out"),
    ],
)
def test_a_contradiction_is_told(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config.model_validate(config)


def test_validate_knows_the_columns() -> None:
    table = Columns({"item_id": Column("int64"), "sid_12": Column("int64")})
    assert [f.where for f in COMPONENT.flow.asks(Config(key="item"), {"table": table})] == [("key",), ("into",)]
    given = COMPONENT.flow.gives(Config(into="c", levels=3, pieces="unigram"), {"table": table})
    assert {"c_1", "c_2", "c_3", "item_id"} <= {*given["events"].known} and given["events"].whole


@cache
def judged(method: str, ids: bool, shuffled: bool = False, codes: int = 20) -> dict[str, float]:
    """Return what a ranker makes of the items' world with the codes of a method, learned from items it trains on."""
    world = content_world(0)
    values = {"item_id": np.arange(ITEMS)} if ids else {}
    if method != "none":
        sizes = {"rqvae": {"epochs": 60}} if method == "rqvae" else {}
        config = Config.model_validate({"method": method, "levels": 2, "codes": codes, **sizes})
        found: Learned = learn(world.content[:KNOWN], config)
        content = world.content[np.random.default_rng(9).permutation(ITEMS)] if shuffled else world.content
        pieces = pieced(found.codes(content)[0], codes, "prefix")
        values |= dict(zip(columns_of("sid", 2, "prefix"), pieces.T, strict=True))
    return learned(world, '{"name": "dnn"}', values, 0)


@pytest.mark.parametrize("method", ["kmeans", "rqvae"])
def test_unseen_items_are_ranked_by_their_codes_and_seen_ones_lose_nothing(method: str) -> None:
    """The control has codes of the same shape that mean nothing."""
    plain, coded, control = judged("none", True), judged(method, True), judged(method, True, shuffled=True)
    assert plain["unseen"] == 0.5 and control["unseen"] < 0.54
    assert coded["unseen"] > 0.65
    assert coded["seen"] > plain["seen"] - 0.006 and coded["tail"] > plain["tail"]


def test_a_single_code_says_nothing() -> None:
    plain, one = judged("none", True), judged("kmeans", True, codes=1)
    assert one["unseen"] == pytest.approx(0.5, abs=0.01) and one["seen"] == pytest.approx(plain["seen"], abs=0.003)
