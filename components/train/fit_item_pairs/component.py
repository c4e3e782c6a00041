"""How does `fit_item_pairs` run? Baskets → vectors, counts, lift → lists, judged by the newest baskets, and a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from components.platform.artifacts import ItemPairs
from components.platform.contract import RunContext
from components.train.fit_item_pairs.config import Config, Inputs, Outputs

if TYPE_CHECKING:
    from scipy import sparse

    from components.train.fit_item_pairs.baskets import Baskets
    from components.train.fit_item_pairs.judge import Lists
    from components.train.fit_item_pairs.report import Way


def run(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Learn, judge and write the lists.

    Raises:
        BadInputError: the log lacks a column, or holds too few pairs.
        MissingError: there is no such log.
    """
    import numpy as np
    from safetensors.numpy import save_file

    from components.train.fit_item_pairs import judge
    from components.train.fit_item_pairs.baskets import read_baskets
    from components.train.fit_item_pairs.page import headline, render
    from components.train.fit_item_pairs.report import Fit
    from components.train.fit_item_pairs.skipgram import learn

    baskets = read_baskets(context.local(inputs.table), config)
    learned = learn(baskets, config, context.progress)
    together = baskets.together()
    longest = max(config.best, config.at[-1])
    asking, found = learned.sides(config.popularity)
    lift = judge.lifted(together, baskets.counts, len(np.unique(baskets.train.basket)), config.together)
    ways: dict[Way, Lists] = {
        "vectors": judge.by_vectors(asking, found, longest),
        "count": judge.by_counts(together, longest),
        "lift": judge.by_counts(lift, longest),
        "popular": judge.by_popularity(baskets.counts, longest),
    }
    figures = []
    for k in config.at:
        figures += judge.judged(baskets, together, ways, k, config.bootstrap, config.seed)
    ours, theirs, basket = judge.pairs_of(baskets.test)
    report = Fit(
        basket=config.basket,
        item=config.item,
        items=len(baskets.items),
        left_out=baskets.left_out,
        pairs=baskets.train.pairs,
        test_baskets=len(np.unique(basket)),
        test_pairs=len(ours),
        new_pairs=int((np.asarray(together[ours, theirs]).ravel() == 0).sum()),
        popularity=config.popularity,
        publish=config.publish,
        resamples=config.bootstrap,
        figures=tuple(figures),
    )
    draft = context.draft("pairs")
    substitutes = judge.alike(learned.asking, longest)
    _write(draft / "pairs.parquet", ways[config.publish], together, baskets, config.best)
    _write(draft / "alike.parquet", substitutes, together, baskets, config.best)
    baskets.items.to_frame("item").with_columns(baskets=baskets.counts).write_parquet(draft / "items.parquet")
    tensors = {"asking": learned.asking, "found": learned.found, "log_chance": learned.log_chance}
    save_file(tensors, draft / "vectors.safetensors")
    (draft / "report.json").write_text(report.model_dump_json(indent=2), encoding="utf-8")
    page = render(report, baskets, ways[config.publish], substitutes, context.pipeline)
    (draft / ItemPairs.page.file).write_text(page, encoding="utf-8")
    context.note(f"{report.items:,} items, {report.pairs:,} pairs, {report.left_out:,} items in too few baskets")
    for line in headline(report):
        context.note(line)
    return Outputs(pairs=ItemPairs(uri=str(draft)))


def _write(file: Path, lists: Lists, together: sparse.csr_matrix, baskets: Baskets, best: int) -> None:
    import numpy as np
    import polars as pl

    row, place = np.nonzero(lists.items[:, :best] >= 0)
    other = lists.items[row, place]
    frame = pl.DataFrame(
        {
            "item": baskets.items[row],
            "rank": (place + 1).astype(np.int32),
            "other": baskets.items[other],
            "score": lists.scores[row, place].astype(np.float32),
            "together": np.asarray(together[row, other]).ravel().astype(np.int64),
        }
    )
    frame.write_parquet(file)
