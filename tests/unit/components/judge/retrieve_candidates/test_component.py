"""Does the component publish each user's candidates, count what they hold, and refuse what has no vectors?"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from components.judge.retrieve_candidates.config import COMPONENT, Config
from components.judge.retrieve_candidates.report import Retrieval
from components.platform.columns import Column, Columns
from components.platform.errors import BadInputError
from components.testing.component import Tried, try_component
from registry.serving.answers.retrieval import nearest_items
from registry.serving.model.served_model import ServedModel

MIXTURE = {"clusters": 6, "neighbours": 5}
GIVEN: dict[str, Any] = {"at": [5, 20], "bootstrap": 50, "provider": "cpu"}
Try = Callable[..., Tried]


@pytest.fixture(scope="module")
def tried(training_set_dir: Path, model_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Try:
    """Run the component over the small data set with a ranker of some kind."""

    def go(ranker: str = "gnolr", **config: Any) -> Tried:
        def example(folders: Mapping[str, Path]) -> Mapping[str, Any]:
            shutil.copytree(model_of(ranker), folders["model"], dirs_exist_ok=True)
            shutil.copytree(training_set_dir, folders["dataset"], dirs_exist_ok=True)
            return GIVEN | config

        return try_component(COMPONENT, example, tmp_path_factory.mktemp("home"))

    return go


def report_of(tried: Tried) -> Retrieval:
    return Retrieval.model_validate_json((tried.outputs["candidates"] / "report.json").read_bytes())


def candidates_of(tried: Tried) -> pa.Table:
    return pq.read_table(tried.outputs["candidates"] / "candidates.parquet")


def pairs_in(tables: list[pa.Table]) -> set[tuple[int, int]]:
    return {pair for t in tables for pair in zip(t["user_id"].to_pylist(), t["item_id"].to_pylist(), strict=True)}


def test_one_query_finds_what_the_command_finds_and_recall_is_counted_by_hand(
    tried: Try, training_set_dir: Path, model_of: Callable[[str], Path]
) -> None:
    one = tried(horizon=None, exclude="shown")
    parts = [pq.read_table(training_set_dir / "raw" / f"{name}.parquet") for name in ("train", "validation", "test")]
    before, test = pa.concat_tables(parts[:2]), parts[2]
    users = test.take(pa.array(np.unique(test["user_id"].to_numpy(), return_index=True)[1]))
    newest = before.slice(0).take(pa.array(np.arange(before.num_rows)[::-1]))
    items = newest.take(pa.array(np.unique(newest["item_id"].to_numpy(), return_index=True)[1]))
    table = candidates_of(one)
    seen = {*zip(before["user_id"].to_pylist(), before["item_id"].to_pylist(), strict=True)}
    model = ServedModel.open(model_of("gnolr"), "cpu")
    found = nearest_items(model, users, items, k=items.num_rows).to_pylist()
    best: dict[int, list[int]] = {}
    for row in found:
        if (row["user_id"], row["item_id"]) not in seen and len(best.setdefault(row["user_id"], [])) < 20:
            best[row["user_id"]].append(row["item_id"])
    mine: dict[int, list[int]] = {}
    for row in table.to_pylist():
        mine.setdefault(row["user_id"], []).append(row["item_id"])
    assert mine == best
    assert (
        set(table.column_names) == {"user_id", "rank", "item_id", "score", "kind"}
        and table["kind"].null_count == table.num_rows
    )
    report = report_of(one)
    liked = test.filter(pc.equal(test["love"], 1))
    wanted: dict[int, set[int]] = {}
    for user, item in zip(liked["user_id"].to_pylist(), liked["item_id"].to_pylist(), strict=True):
        wanted.setdefault(user, set()).add(item)
    shares = [len(wanted[user] & {*best.get(user, [])[:20]}) / len(wanted[user]) for user in wanted]
    figures = {(f.way, f.group, f.k): f for f in report.figures}
    assert figures["single", "all", 20].recall.value == pytest.approx(np.mean(shares))
    assert report.choices == sum(map(len, wanted.values())) and report.judged == len(wanted)
    distinct = {item for user in wanted for item in best[user]}
    assert figures["single", "all", 20].distinct == len(distinct)
    difference = figures["popular", "all", 20].difference
    assert difference is not None and difference.value == pytest.approx(
        figures["popular", "all", 20].recall.value - np.mean(shares)
    )


def test_a_mixture_is_judged_beside_one_query_twice_with_the_same_bytes(tried: Try, training_set_dir: Path) -> None:
    first, again = tried(mixture=MIXTURE), tried(mixture=MIXTURE)
    had = [pq.read_table(training_set_dir / "raw" / f"{name}.parquet") for name in ("train", "validation")]
    shown, liked = pairs_in(had), pairs_in([part.filter(pc.equal(part["like"], 1)) for part in had])
    assert first.digests == again.digests
    report, table = report_of(first), candidates_of(first)
    ways = {f.way for f in report.figures}
    assert ways == {"single", "mixture", "popular"} and table["kind"].null_count < table.num_rows
    got = pairs_in([table])
    assert not got & liked and got & shown, "what was chosen is left out, what was only shown is not"
    page = (first.outputs["candidates"] / "report.html").read_text()
    assert "a query per kind" in page and "6 kinds" in page
    alike = candidates_of(tried(mixture={"clusters": 1, "own": 1, "neighbours": 0}))
    single = candidates_of(tried())
    known = alike.filter(pc.is_valid(alike["kind"]))
    assert known.num_rows and alike.drop_columns(["kind"]).equals(single.drop_columns(["kind"]))


def test_everybody_may_have_candidates_as_of_now(tried: Try, training_set_dir: Path) -> None:
    table = candidates_of(tried(users="all", at=[5], exclude="nothing"))
    parts = [pq.read_table(training_set_dir / "raw" / f"{name}.parquet") for name in ("train", "validation", "test")]
    users = {user for user, _ in pairs_in(parts)}
    assert table.num_rows == 5 * len(users) and {*table["user_id"].to_pylist()} == users


def test_what_cannot_be_found_is_refused_in_one_sentence(tried: Try) -> None:
    with pytest.raises(BadInputError, match=r"ranker 'esmm' scores pairs.*retrieve with a model of 'gnolr'"):
        tried("esmm")
    with pytest.raises(BadInputError, match=r"at asks for 5,000 candidates of \d+ items: lower it"):
        tried(at=[5000])
    with pytest.raises(BadInputError, match=r"mixture.clusters is 5,000 of \d+ items: lower it"):
        tried(mixture={"clusters": 5000})
    with pytest.raises(BadInputError, match="feedback 'lov' is not one of the training set's, like, love"):
        tried(feedback="lov")
    for wrong, why in (
        ({"at": [20, 5]}, "must rise: write"),
        ({"mixture": {"neighbours": 0}}, "own below 1 leaves the rest to neighbours"),
    ):
        with pytest.raises(ValidationError, match=why):
            Config.model_validate(wrong)
    columns = {"dataset": Columns({"like": Column("int8", "feedback")})}
    (fault,) = COMPONENT.flow.asks(Config(feedback="lik"), columns)
    assert fault.message == "the dataset has no column 'lik' (did you mean 'like'?)"
