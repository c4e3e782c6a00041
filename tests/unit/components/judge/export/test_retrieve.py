"""Do the vectors of a served model find the items that it would rank highest?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from features.declaration import Within
from features.ground.errors import BadInputError, MissingError
from pipelines.cli.main import app
from registry.serving.answers.answer import answer
from registry.serving.answers.excluded import pairs_seen
from registry.serving.answers.retrieval import nearest_items
from registry.serving.model.served_model import ServedModel
from tests.unit.components.judge.export.conftest import Exported

ITEM_SIDE = ["genres", "item_id", "popularity"]


@pytest.fixture(scope="module")
def rows(training_set_dir: Path) -> pa.Table:
    return pq.read_table(training_set_dir / "raw" / "test.parquet").slice(0, 400)


def distinct(rows: pa.Table, key: str) -> pa.Table:
    first = np.unique(rows[key].to_numpy(), return_index=True)[1]
    return rows.take(pa.array(first))


def test_the_best_items_are_those_that_scoring_every_pair_finds(
    exporter: Callable[[str], Exported], rows: pa.Table
) -> None:
    model = ServedModel.open(exporter("gnolr").directory, "cpu")
    users = distinct(rows, "user_id").slice(0, 20).drop_columns(ITEM_SIDE)
    items = distinct(rows, "item_id").select(ITEM_SIDE)
    found = nearest_items(model, users, items, k=5)
    pairs = users.take(pa.array(np.repeat(np.arange(20), items.num_rows)))
    catalogue = items.take(pa.array(np.tile(np.arange(items.num_rows), 20)))
    for name in ITEM_SIDE:
        pairs = pairs.append_column(name, catalogue[name])
    scores = answer(model, pairs).tasks["love"].reshape(20, -1)
    best = np.sort(scores, axis=1)[:, ::-1][:, :5]
    columns = {item: i for i, item in enumerate(items["item_id"].to_pylist())}
    chosen = np.array([columns[item] for item in found["item_id"].to_pylist()]).reshape(20, 5)
    np.testing.assert_allclose(np.take_along_axis(scores, chosen, axis=1), best, rtol=1e-4)
    assert found["rank"].to_pylist()[:6] == [1, 2, 3, 4, 5, 1]
    assert found["user_id"].to_pylist()[::5] == users["user_id"].to_pylist()


def test_what_a_user_had_is_left_out_and_the_next_best_move_up(
    exporter: Callable[[str], Exported], rows: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ServedModel.open(exporter("gnolr").directory, "cpu")
    users = distinct(rows, "user_id").slice(0, 20).drop_columns(ITEM_SIDE)
    items = distinct(rows, "item_id").select(ITEM_SIDE).slice(0, 12)
    catalogue = items["item_id"].to_pylist()
    had = {
        user: {*recent} & {*catalogue}
        for user, recent in zip(users["user_id"].to_pylist(), users["recent_items"].to_pylist(), strict=True)
    }
    first = users["user_id"][0].as_py()
    bought = {first: {*catalogue[:11]}}
    for name, table in (("users", users), ("items", items)):
        pq.write_table(table, tmp_path / f"{name}.parquet")
    lines = [f"{first},{item},x" for item in [*catalogue[:11], 10**9]] + [f"77777777,{catalogue[0]},x"]
    (tmp_path / "bought.csv").write_text("\n".join(["user_id,item_id,note", *lines]))

    @contextmanager
    def opened(*_: object) -> Iterator[tuple[ServedModel, int]]:
        yield model, 3

    monkeypatch.setattr("pipelines.cli.retrieve.opened", opened)

    def run(*more: str) -> tuple[dict[int, list[int]], str]:
        words = ["retrieve", "shop", *(str(tmp_path / f"{name}.parquet") for name in ("users", "items", "out"))]
        result = CliRunner().invoke(app, [*words, "-k", "6", *more], catch_exceptions=False)
        found = pq.read_table(tmp_path / "out.parquet").to_pylist()
        assert [row["rank"] for row in found if row["user_id"] == first] == list(
            range(1, sum(row["user_id"] == first for row in found) + 1)
        )
        best: dict[int, list[int]] = {}
        for row in found:
            best.setdefault(row["user_id"], []).append(row["item_id"])
        return best, result.output

    everything = nearest_items(model, users, items, k=12).to_pylist()
    for more, without in (
        (("--exclude", "seen"), had),
        (("--exclude", str(tmp_path / "bought.csv")), bought),
        (("--exclude", "seen", "--exclude", str(tmp_path / "bought.csv")), had | {first: had[first] | bought[first]}),
    ):
        best, told = run(*more)
        for user in had:
            order = [row["item_id"] for row in everything if row["user_id"] == user]
            wanted = [item for item in order if item not in without.get(user, ())]
            assert best.get(user, []) == wanted[:6]
        assert f"{sum(map(len, without.values()))} user-item pairs left out" in told
        short = sum(len(catalogue) - len(without.get(user, ())) < 6 for user in had)
        assert ("users have fewer" in told) == (short > 0) and (not short or f"{short} of 20 users" in told)
    assert sum(map(len, had.values())) > 20, "users had some of them"
    assert "pairs left out" not in run()[1]
    with pytest.raises(BadInputError, match=r"no column 'user_id'.*pairs are in columns 'user_id' and 'item_id'"):
        run("--exclude", str(tmp_path / "items.parquet"))
    with pytest.raises(MissingError, match="no file sen: exclude 'seen'"):
        run("--exclude", "sen")
    with pytest.raises(BadInputError, match="no history with the values of 'item_id'"):
        fields = tuple(f for f in model.contract.fields if f.name != "recent_items")
        pairs_seen(model.contract.schema_.model_copy(update={"fields": fields}), users, items)


def test_a_ranker_of_pairs_and_a_missing_column_are_one_sentence(
    exporter: Callable[[str], Exported], rows: pa.Table
) -> None:
    rows, items = distinct(rows, "user_id"), distinct(rows, "item_id").select(ITEM_SIDE)
    with pytest.raises(BadInputError, match=r"ranker 'esmm' scores pairs.*retrieve with a model of 'gnolr'"):
        nearest_items(ServedModel.open(exporter("esmm").directory, "cpu"), rows, items, k=1)
    model = ServedModel.open(exporter("gnolr").directory, "cpu")
    schema = model.contract.schema_
    within = {"popularity": Within(of="popularity", take="rank")}
    roles = schema.declaration.model_copy(update={"request": "visit", "within": within})
    contract = model.contract.model_copy(update={"schema_": schema.model_copy(update={"declaration": roles})})
    with pytest.raises(BadInputError, match=r"^'popularity' compares an item with those shown beside it, so no item"):
        nearest_items(replace(model, contract=contract), rows, items, k=1)
    with pytest.raises(BadInputError, match="item rows have no column 'genres'"):
        nearest_items(model, rows, items.drop_columns(["genres"]), k=1)
    with pytest.raises(BadInputError, match="user rows have no column 'recent_items'"):
        nearest_items(model, rows.drop_columns(["recent_items"]), items, k=1)
    with pytest.raises(BadInputError, match="rows have no column 'user_id'"):
        nearest_items(model, rows.drop_columns(["user_id"]), items, k=1)
