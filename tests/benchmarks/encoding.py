"""How many rows a second become tensors?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks.contract import Benchmark, Report, Series, table_of
from tests.benchmarks.lab import Lab

OURS, PANDAS, SKLEARN = "rankmill", "pandas by hand", "scikit-learn"
PLAIN, LISTS = "6 plain columns", "6 plain columns, a history of 20, a bag of 5"
DTYPES = {
    "user_id": "int64", "item_id": "int64", "gender": "string", "city": "string", "age": "float64", "rate": "float64",
    "history": "array<int64>", "genres": "array<string>",
}  # fmt: skip
SHAPES = {PLAIN: list(DTYPES)[:6], LISTS: list(DTYPES)}
HISTORY, BAG, BINS = 20, 5, 32
REQUESTS = (1, 100)
"""Rows of a small request."""


def run(lab: Lab) -> Report:
    """Read a Parquet file and encode it by what was learned before, each way in a process of its own."""
    rows = 5_000 if lab.quick else 300_000
    path = write_rows(lab.work, rows)
    rates: dict[str, dict[str, list[float]]] = {who: {} for who in (OURS, PANDAS, SKLEARN)}
    memory: dict[str, dict[str, list[float]]] = {who: {} for who in (OURS, PANDAS, SKLEARN)}
    for case in SHAPES:
        ways = (OURS, PANDAS, SKLEARN) if case == PLAIN else (OURS, PANDAS)
        for number in range(lab.rounds(2)):
            sums = set()
            for who in ways[:: 1 if number % 2 == 0 else -1]:
                lab.say(f"{case}, round {number + 1}: {who}")
                cost = lab.child(encode, path=str(path), case=case, who=who)
                assert cost is not None, f"{who} did not encode {case}"
                rates[who].setdefault(case, []).append(rows / cost.seconds)
                memory[who].setdefault(case, []).append(cost.mib)
                sums.add(tuple(cost.value))
            assert len(sums) == 1, f"indices of {case} differ: {sums}"
    cases = list(SHAPES)
    common: dict[str, Any] = {
        "axis": f"{rows:,} rows", "cases": tuple(cases),
        "absent": {f"{SKLEARN} @ {LISTS}": "has no encoder of lists"},
    }  # fmt: skip
    rate = Series(title="Rate of encoding", unit="rows/s", better="higher", samples=table_of(rates, cases), **common)
    space = Series(
        title="Memory above the libraries'", unit="MiB", better="lower", samples=table_of(memory, cases), **common
    )
    return Report(series=(rate, space, _small_requests(lab)))


def _small_requests(lab: Lab) -> Series:
    """Ask an encoder of many ids for few rows at a time, as a server does."""
    ids = 10_000 if lab.quick else 1_000_000
    cases = [f"{rows} rows" if rows > 1 else "1 row" for rows in REQUESTS]
    taken: dict[str, dict[str, list[float]]] = {OURS: {}}
    for number in range(lab.rounds(2)):
        lab.say(f"small requests, round {number + 1}")
        cost = lab.child(ask, ids=ids)
        assert cost is not None, "no request was answered"
        for case, milliseconds in zip(cases, cost.value, strict=True):
            taken[OURS].setdefault(case, []).append(milliseconds)
    return Series(
        title="CPU time of a request", unit="ms", better="lower", samples=table_of(taken, cases),
        axis=f"{ids:,} users and as many items", cases=tuple(cases),
    )  # fmt: skip


def ask(ids: int) -> Iterator[None]:
    """Encode requests of other rows each, with an encoder that was kept and opened; gives the median CPU ms of each."""
    import tempfile
    import time

    import numpy as np
    import pyarrow.parquet as pq

    from features.encoding.encoder import Encoder
    from features.encoding.files import read_encoder, write_encoder
    from features.encoding.vocabularies import Vocabulary

    with tempfile.TemporaryDirectory() as folder:
        rows = pq.read_table(write_rows(Path(folder), 10_000))
        fitted, every = _fitted(rows, SHAPES[LISTS]), Vocabulary.sorted(np.arange(ids))
        many = {**fitted.vocabularies, "user_id": every, "item_id": every}
        write_encoder(Encoder(fitted.fitted, many), Path(folder))
        encoder = read_encoder(Path(folder))
        yield
        medians = []
        for size in REQUESTS:
            taken = []
            for start in range(0, 100 * size, size):
                request = rows.slice(start, size).combine_chunks()
                begun = time.process_time()
                encoder.encode(request)
                taken.append((time.process_time() - begun) * 1e3)
            medians.append(float(np.median(taken)))
        yield
    return medians


def encode(path: str, case: str, who: str) -> Iterator[None]:
    """Encode in one way; gives the sum of every integer column, which must be everybody's."""
    way = {OURS: _ours, PANDAS: _pandas, SKLEARN: _sklearn}[who](path, SHAPES[case])
    next(way)
    yield
    tensors = next(way)
    yield
    return [int(tensors[name].sum()) for name in SHAPES[case] if name not in ("age", "rate")]


def _ours(path: str, names: list[str]) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq
    import torch

    encoder = _fitted(pq.read_table(path), names)
    yield {}
    made = encoder.encode(pq.read_table(path, columns=names))
    yield {name: torch.from_numpy(values) for name, values in made.items()}


def _fitted(table: Any, names: list[str]) -> Any:
    from features.declaration import FieldEncoding
    from features.encoding.encoder import Encoder

    options = {
        "rate": FieldEncoding(kind="bin", buckets=BINS),
        "history": FieldEncoding(kind="sequence", shares="item_id", length=HISTORY),
        "genres": FieldEncoding(kind="bag", length=BAG),
    }
    chosen = {name: option for name, option in options.items() if name in names}
    return Encoder.fit(table, {name: DTYPES[name] for name in names}, chosen)


def _pandas(path: str, names: list[str]) -> Iterator[dict[str, Any]]:
    """Write what a notebook holds: categories, and a padded array filled row by row."""
    import numpy as np
    import pandas as pd
    import torch

    rows = pd.read_parquet(path)
    items = [rows["item_id"], *([rows["history"].explode().dropna().astype("int64")] if "history" in names else [])]
    known = {name: pd.Index(np.unique(rows[name])) for name in ("user_id", "gender", "city")}
    known["item_id"] = pd.Index(np.unique(np.concatenate([part.to_numpy() for part in items])))
    known["history"] = known["item_id"]
    if "genres" in names:
        known["genres"] = pd.Index(np.unique(rows["genres"].explode().dropna().to_numpy(dtype=object)))
    mean, scale = rows["age"].mean(), rows["age"].std(ddof=0)
    edges = np.quantile(rows["rate"], np.linspace(0, 1, BINS + 1)[1:-1])
    yield {}
    rows = pd.read_parquet(path, columns=names)
    made = {}
    for name in names:
        if name == "age":
            made[name] = torch.from_numpy(((rows[name] - mean) / scale).to_numpy(dtype=np.float32))
        elif name == "rate":
            made[name] = torch.from_numpy(np.searchsorted(edges, rows[name], side="right") + 2)
        elif name in ("history", "genres"):
            length = HISTORY if name == "history" else BAG
            padded = np.zeros((len(rows), length), dtype=np.int64)
            for at, values in enumerate(rows[name]):
                padded[at, : len(values)] = known[name].get_indexer(values)[:length] + 2
            made[name] = torch.from_numpy(padded)
        else:
            made[name] = torch.from_numpy(known[name].get_indexer(rows[name]).astype(np.int64) + 2)
    yield made


def _sklearn(path: str, names: list[str]) -> Iterator[dict[str, Any]]:
    import numpy as np
    import pandas as pd
    import torch
    from sklearn.compose import ColumnTransformer
    from sklearn.preprocessing import KBinsDiscretizer, OrdinalEncoder, StandardScaler

    plain = ["user_id", "item_id", "gender", "city"]
    pipeline = ColumnTransformer(
        [
            ("ids", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), plain),
            ("age", StandardScaler(), ["age"]),
            ("rate", KBinsDiscretizer(BINS, encode="ordinal", quantile_method="linear"), ["rate"]),
        ]
    )
    pipeline.fit(pd.read_parquet(path, columns=names))
    yield {}
    made = pipeline.transform(pd.read_parquet(path, columns=names))
    yield {
        **{name: torch.from_numpy(made[:, at].astype(np.int64) + 2) for at, name in enumerate(plain)},
        "age": torch.from_numpy(made[:, 4].astype(np.float32)),
        "rate": torch.from_numpy(made[:, 5].astype(np.int64) + 2),
    }


def write_rows(folder: Path, rows: int) -> Path:
    """Write users, items by popularity, two texts, two numbers, the items seen before, and a bag of words."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    generator = np.random.default_rng(3)
    share = np.cumsum(np.arange(1, 20_001) ** -0.8)

    def items(count: int) -> Any:
        return np.searchsorted(share, generator.random(count) * share[-1]).astype(np.int64)

    def lists(longest: int, values: Any) -> Any:
        lengths = generator.integers(0, longest + 1, rows)
        bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        flat = pa.array(values(int(bounds[-1])))
        # Of many texts pyarrow makes several chunks.
        return pa.ListArray.from_arrays(
            pa.array(bounds), flat.combine_chunks() if isinstance(flat, pa.ChunkedArray) else flat
        )

    words = np.array([f"genre_{number}" for number in range(20)])
    cities = np.array([f"city_{number}" for number in range(500)])
    table = pa.table(
        {
            "user_id": generator.integers(0, 100_000, rows),
            "item_id": items(rows),
            "gender": np.array(["F", "M", "X"])[generator.integers(0, 3, rows)],
            "city": cities[generator.integers(0, 500, rows)],
            "age": generator.normal(35, 12, rows),
            "rate": generator.random(rows),
            "history": lists(HISTORY, items),
            "genres": lists(BAG, lambda count: words[generator.integers(0, 20, count)]),
        }
    )
    path = folder / "rows.parquet"
    pq.write_table(table, path, compression="zstd")
    return path


BENCHMARK = Benchmark(
    title="Encoding",
    question="How many rows a second become tensors, from a Parquet file?",
    run=run,
    order=40,
    notes=(
        "Vocabularies, bins and scales are learned before the clock starts. Every way gives the same indices, which is "
        "checked by their sums. pandas looks up whole columns with `Index.get_indexer`, and lists row by row, as "
        "there is no other way in it.",
        f"Small requests are {LISTS}, of other rows each, and are asked of an encoder that was kept and opened; the "
        "time is that of the processor, the median of 100 requests.",
    ),
)
