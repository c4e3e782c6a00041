"""Do codes hear what clicks say of items, from the rows before the end alone, and only where it is there to hear?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
from numpy.typing import NDArray
from pydantic import ValidationError

from components.data.assign_semantic_ids.align import Engaged, engaged, turn_of
from components.data.assign_semantic_ids.component import learn, pieced
from components.data.assign_semantic_ids.config import COMPONENT, Align, Codebook, Config, columns_of
from components.ingest.item_vectors import Vectors, write_vectors
from components.platform.columns import Column, Columns
from components.platform.errors import BadInputError
from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from components.testing.component import Tried, try_component
from components.train.train_ranker.config import Knobs
from components.train.train_ranker.optimiser import RankerOptimiser
from features.declaration import FIRST, Declaration, FieldSpec, RankerSchema
from registry.metrics import auc

ITEMS, KNOWN, USERS, SEGMENTS, KINDS, ROWS, CODES = 1000, 700, 400, 16, 12, 30_000, 20
CLICKS = Align(feedback="click")


@dataclass(frozen=True)
class TasteWorld:
    """Vectors mostly show what nobody cares for; users of a segment like the same kinds of items.

    A vector has one factor that users care for, the kind of its item, and three of the same number of values and one
    and a half times its size that they do not.
    """

    vectors: NDArray[np.float32]
    """float32 ``[items, 16]``."""
    segment: NDArray[np.int64]
    """``[users]``."""
    logit: NDArray[np.float64]
    """``[users, items]``."""
    users: NDArray[np.int64]
    """``[rows]``."""
    items: NDArray[np.int64]
    """``[rows]``, of the first 700."""
    clicks: NDArray[np.float32]
    """``[rows]``."""
    rng: np.random.Generator

    def drawn(self, users: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return whether a user clicks an item."""
        return (self.rng.random(len(users)) < 1 / (1 + np.exp(-self.logit[users, items]))).astype(np.float32)


@cache
def taste_world(seed: int) -> TasteWorld:
    """Return the world of a seed."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(KINDS, size=ITEMS)
    factors = [rng.normal(size=(KINDS, 4))[kind]]
    factors += [1.5 * rng.normal(size=(KINDS, 4))[rng.integers(KINDS, size=ITEMS)] for _ in range(3)]
    mixed = np.concatenate(factors, axis=1) @ np.linalg.qr(rng.normal(size=(16, 16)))[0]
    vectors = (mixed + 0.1 * rng.normal(size=mixed.shape)).astype(np.float32)
    segment = rng.integers(SEGMENTS, size=USERS)
    logit = 1.5 * rng.normal(size=(SEGMENTS, KINDS))[segment][:, kind] + 0.3 * rng.normal(size=ITEMS)
    share = 1 / np.arange(1, KNOWN + 1)
    users, items = rng.integers(USERS, size=ROWS), rng.choice(KNOWN, size=ROWS, p=share / share.sum())
    world = TasteWorld(vectors, segment, logit, users, items, np.zeros(0, np.float32), rng)
    return TasteWorld(vectors, segment, logit, users, items, world.drawn(users, items), rng)


@cache
def codes_of(seed: int, aligned: bool, shuffled: bool = False, method: str = "kmeans") -> NDArray[np.int64]:
    """Return ``[items, 2]`` codes, learned from the known items; `shuffled` clicks are those of other items."""
    world = taste_world(seed)
    sizes = {"rqvae": {"epochs": 60}} if method == "rqvae" else {}
    block = {"levels": 2, "codes": CODES, "method": method, "align": CLICKS if aligned else None, **sizes}
    said = engaged(world.users, world.items, world.clicks, KNOWN, CLICKS) if aligned else None
    if said is not None and shuffled:
        other = np.random.default_rng(9).permutation(KNOWN)
        said = Engaged(said.vectors[other], said.rows[other])
    return learn(world.vectors[:KNOWN], Config.model_validate(block), said).codes(world.vectors)[0]


def judged(seed: int, codes: NDArray[np.int64] | None) -> dict[str, float]:
    """Return the AUC of a `dnn` of segment, item and codes after four passes, on fresh rows by how known items are."""
    world = taste_world(seed)
    values = {"item_id": np.arange(ITEMS)}
    if codes is not None:
        values |= dict(zip(columns_of("sid", 2, "prefix"), pieced(codes, CODES, "prefix").T, strict=True))
    sizes = {name: FIRST + int(of.max()) + 1 for name, of in values.items()} | {"segment": FIRST + SEGMENTS}
    fields = tuple(FieldSpec(name=name, kind="categorical", size=n, table=name) for name, n in sorted(sizes.items()))
    rate = {"click": float(world.clicks.mean())}
    torch.manual_seed(seed)
    schema = RankerSchema(declaration=Declaration(feedback=("click",)), fields=fields, base_rates=rate)
    ranker = build_ranker(RankerConfig.of(name="dnn"), schema).train()
    embedding: Any = ranker.get_submodule("embedding")
    with torch.no_grad():  # values that no training row holds say nothing, as those of a vocabulary
        for name, of in values.items():
            absent = np.setdiff1d(np.arange(int(of.max()) + 1), of[world.items])
            embedding.weight[embedding.offsets[name] + FIRST + absent] = 0.0
    optimiser = RankerOptimiser(ranker, Knobs(learning_rate=0.002))

    def inputs(users: NDArray[np.int64], items: NDArray[np.int64]) -> dict[str, torch.Tensor]:
        of_items = {name: torch.from_numpy(of[items] + FIRST) for name, of in values.items()}
        return of_items | {"segment": torch.from_numpy(world.segment[users] + FIRST)}

    rows, clicks = inputs(world.users, world.items), torch.from_numpy(world.clicks)
    order = torch.Generator().manual_seed(seed)
    for _ in range(4):
        for at in torch.randperm(ROWS, generator=order).split(256):
            optimiser.clear()
            outputs = ranker({name: of[at] for name, of in rows.items()})
            ranker.loss(outputs, {"click": clicks[at]}).backward()  # type: ignore[no-untyped-call]  # torch does not type it
            optimiser.step()
    ranker.eval()
    found, rng = {}, np.random.default_rng(seed)
    for name, least, most in (("tail", 200, KNOWN), ("unseen", KNOWN, ITEMS)):
        users, items = rng.integers(USERS, size=20_000), rng.integers(least, most, size=20_000)
        with torch.no_grad():
            scores = ranker(inputs(users, items))["click"].numpy()
        found[name] = float(auc(world.drawn(users, items), scores) or 0.5)
    return found


@pytest.fixture
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the matrices are too small for two
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("seed", range(3))
def test_items_that_few_have_seen_are_ranked_by_codes_that_know_clicks(seed: int, one_thread: None) -> None:
    """The control hears the clicks of other items."""
    plain, aligned = judged(seed, codes_of(seed, False)), judged(seed, codes_of(seed, True))
    shuffled = judged(seed, codes_of(seed, True, shuffled=True))
    assert aligned["unseen"] > max(plain["unseen"], shuffled["unseen"]) + 0.08
    assert aligned["tail"] > max(plain["tail"], shuffled["tail"]) + 0.03


@pytest.mark.parametrize("method", ["kmeans", "rqvae"])
def test_groups_of_either_method_are_of_what_users_care_for(method: str, one_thread: None) -> None:
    def mixed(codes: NDArray[np.int64]) -> float:
        """Return how much of what users think of items differs within groups."""
        tastes = taste_world(0).logit
        groups = [tastes[:, codes[:, 0] == code] for code in np.unique(codes[:, 0])]
        within = sum(float(((group - group.mean(axis=1, keepdims=True)) ** 2).sum()) for group in groups)
        return within / float(((tastes - tastes.mean(axis=1, keepdims=True)) ** 2).sum())

    plain, aligned, wrong = (codes_of(0, *how, method=method) for how in ((False,), (True,), (True, True)))
    assert mixed(aligned) < 0.6 < 0.75 < min(mixed(plain), mixed(wrong))


def test_what_vectors_tell_of_clicks_is_judged_without_the_item() -> None:
    world = taste_world(0)
    said = engaged(world.users, world.items, world.clicks, KNOWN, CLICKS)
    ready = world.vectors[:KNOWN] - world.vectors[:KNOWN].mean(axis=0)
    other = np.random.default_rng(9).permutation(KNOWN)
    assert turn_of(ready, said, CLICKS).told > 0.02
    assert turn_of(ready, Engaged(said.vectors[other], said.rows[other]), CLICKS).told < 0


def test_popular_items_and_eager_users_are_not_alike_for_that() -> None:
    """Rates of users and items explain all clicks: what is left has the size of chance."""
    rng = np.random.default_rng(0)
    users, items = rng.integers(200, size=40_000), rng.integers(100, size=40_000)
    eager, liked = rng.normal(size=200), rng.normal(size=100)
    logit = eager[users] + liked[items]
    align = Align(feedback="click", width=2)

    def size(logit: NDArray[np.float64]) -> float:
        clicks = (np.random.default_rng(1).random(40_000) < 1 / (1 + np.exp(-logit))).astype(np.float32)
        return float(np.linalg.norm(engaged(users, items, clicks, 100, align).vectors))

    assert size(logit) < 1.2 * size(np.zeros(40_000))
    assert size(2 * np.sign(eager[users] * liked[items])) > 2 * size(np.zeros(40_000))


MINUTES = 400


def tried(folder: Path, later: int = 0, align: Mapping[str, Any] | None = None, **more: Any) -> Tried:
    """Run the component on 400 rows, the clicks of the last `later` of them turned round."""
    vectors = taste_world(0).vectors[:80]

    def example(folders: Mapping[str, Path]) -> Mapping[str, Any]:
        rng = np.random.default_rng(3)
        clicks = rng.integers(2, size=MINUTES)
        clicks[MINUTES - later :] = 1 - clicks[MINUTES - later :]
        times = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=at) for at in range(MINUTES)]
        frame = pl.DataFrame(
            {
                "item_id": np.arange(MINUTES) % 80,
                "user_id": [f"user {at}" for at in rng.integers(30, size=MINUTES)],
                "click": clicks,
                "always": np.ones(MINUTES, np.int64),
                "stars": clicks * 5,
                "event_timestamp": times,
            }
        )
        frame.with_columns(pl.col("event_timestamp").cast(pl.Datetime("us", "UTC"))).write_parquet(
            folders["table"] / "events.parquet"
        )
        (folders["table"] / "window.json").write_text("{}")
        write_vectors(folders["vectors"], Vectors(pa.array(np.arange(80)), vectors), "item_id", "a model")
        block = {} if align is None else {"align": align}
        return {"levels": 2, "codes": 5, "fit_before": "2026-01-01T05:00:00Z", **block, **more}

    return try_component(COMPONENT, example, folder)


def files(made: Tried) -> dict[str, bytes]:
    names = (("events", "events.parquet"), *(("codebook", name) for name in ("codebook.json", "codebook.safetensors")))
    return {name: (made.outputs[port] / name).read_bytes() for port, name in names}


def test_without_weight_the_files_are_those_without_it(tmp_path: Path) -> None:
    plain = files(tried(tmp_path / "a"))
    assert files(tried(tmp_path / "b", align={"feedback": "click", "weight": 0})) == plain
    assert files(tried(tmp_path / "c", align={"feedback": "click"})) != plain


def test_later_clicks_are_not_heard(tmp_path: Path) -> None:
    align = {"feedback": "click"}
    early = tried(tmp_path / "a", align=align)
    assert (
        files(tried(tmp_path / "b", later=100, align=align))["codebook.safetensors"]
        == (files(early)["codebook.safetensors"])
    )
    assert (
        files(tried(tmp_path / "c", later=101, align=align))["codebook.safetensors"]
        != (files(early)["codebook.safetensors"])
    )
    book = Codebook.model_validate_json(files(early)["codebook.json"])
    assert book.told is not None and book.told < 0, "these clicks are noise"


@pytest.mark.parametrize("method", ["kmeans", "rqvae"])
def test_another_night_keeps_the_codes(method: str, tmp_path: Path) -> None:
    sizes = {"rqvae": {"hidden": [16], "latent": 4, "epochs": 3}} if method == "rqvae" else {}
    first = tried(tmp_path / "a", align={"feedback": "click"}, method=method, **sizes)
    codes = pq.read_table(first.outputs["events"] / "events.parquet")

    def again(folders: Mapping[str, Path]) -> Mapping[str, Any]:
        pq.write_table(codes.drop_columns(["sid_1", "sid_12"]), folders["table"] / "events.parquet")
        (folders["table"] / "window.json").write_text("{}")
        write_vectors(
            folders["vectors"], Vectors(pa.array(np.arange(80)), taste_world(0).vectors[:80]), "item_id", "a model"
        )
        return {"reuse": str(first.outputs["codebook"])}

    second = try_component(COMPONENT, again, tmp_path / "b")
    assert pq.read_table(second.outputs["events"] / "events.parquet").equals(codes)
    assert files(second)["codebook.json"] == files(first)["codebook.json"]


@pytest.mark.parametrize(
    ("align", "message"),
    [
        ({"feedback": "clock"}, r"align: the table has no column 'clock' \(did you mean 'click'\?\)"),
        ({"feedback": "click", "user": "user"}, r"align: the table has no column 'user' \(did you mean 'user_id'\?\)"),
        ({"feedback": "stars"}, r"of 300 values of 'stars' are not 0 or 1: name another column"),
        ({"feedback": "always"}, r"all of the 300 rows to learn from has 'always', which tells no item from another"),
        ({"feedback": "click", "width": 30}, r"30 directions of 30 users and 80 items: set width below 30"),
    ],
)
def test_what_cannot_be_heard_is_a_sentence(align: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=message):
        tried(tmp_path, align=align)


def test_a_contradiction_is_told_and_validate_knows_the_columns() -> None:
    with pytest.raises(ValidationError, match="end where training ends"):
        Config.model_validate({"align": {"feedback": "click"}, "fit_share": 1.0})
    with pytest.raises(ValidationError, match="leave align out"):
        Config.model_validate({"align": {"feedback": "click"}, "reuse": "book"})
    table = Columns({"item_id": Column("int64"), "user": Column("int64"), "click": Column("int64")})
    faults = [fault.where for fault in COMPONENT.flow.asks(Config(align=CLICKS), {"table": table})]
    assert faults == [("align", "user")]
