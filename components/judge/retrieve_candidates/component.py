"""How does `retrieve_candidates` run? Rows → vectors → one query or several per user → candidates, figures, page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.judge.retrieve_candidates.config import Config, Inputs, Mixture, Outputs
from components.platform.artifacts import CandidatesTable
from components.platform.contract import RunContext
from components.platform.errors import BadInputError

if TYPE_CHECKING:
    import pyarrow as pa

    from components.judge.retrieve_candidates.mixture import Asked, Candidates
    from components.judge.retrieve_candidates.report import Figures, Way
    from components.judge.retrieve_candidates.rows import Asking
    from registry.serving.answers.excluded import Pairs
    from registry.serving.model.separable import Vectors
    from registry.serving.model.served_model import ServedModel


def run(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Write the candidates and what they hold of the choices of the test split.

    Raises:
        BadInputError: the ranker scores pairs and not vectors, there are fewer items than candidates or kinds, or
            nobody of the test split chose anything.
        MissingError: the requested provider did not load.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from components.data.training_set import read_schema
    from components.judge.retrieve_candidates import rows
    from components.judge.retrieve_candidates.judge import Judge
    from components.judge.retrieve_candidates.page import headline, render
    from components.judge.retrieve_candidates.report import Retrieval
    from registry.serving.model.served_model import ServedModel

    model, folder = ServedModel.open(context.local(inputs.model), config.provider), context.local(inputs.dataset)
    schema = read_schema(folder)
    roles = schema.declaration
    label = config.feedback or roles.feedback[-1]
    splits = rows.read_splits(folder, schema, label, [*model.encoder.columns])
    before, test = pa.concat_tables([splits["train"], splits["validation"]]), splits["test"]
    first = test.take(pa.array(rows.edge(test, roles.user, roles.time, last=False)))
    asked = rows.asking(first, before, schema, label, config.exclude)
    judge = Judge(asked, rows.wanted(asked, test, schema, label, config.horizon), config.bootstrap, config.seed)
    if not (judge.total > 0).any():
        raise BadInputError(
            f"no user of the test split has {label!r} within the horizon, so nothing tells whether candidates are "
            "good: lengthen horizon, or the test split"
        )
    search = Search.of(model, asked, config)
    figures: list[Figures] = []
    found: dict[Way, Candidates] = {}
    for k in config.at:
        found = search.ways(k)
        figures += judge.figures({way: candidates.items for way, candidates in found.items()})
        context.progress(f"{k} candidates of {first.num_rows:,} users")
    chosen = found["mixture" if config.mixture else "single"]
    if config.users == "all":
        everything = pa.concat_tables([before, test])
        newest = everything.take(pa.array(rows.edge(everything, roles.user, roles.time, last=True)))
        asked = rows.asking(newest, everything, schema, label, config.exclude)
        search = Search.of(model, asked, config)
        chosen = search.mixed(config.at[-1])
    report = Retrieval(
        model_digest=inputs.model.digest,
        dataset_digest=inputs.dataset.digest,
        feedback=label,
        horizon=config.horizon,
        mixture=config.mixture,
        items=judge.asked.items.num_rows,
        users=first.num_rows,
        judged=int((judge.total > 0).sum()),
        choices=int(judge.total.sum()),
        unseen=int(judge.wanted.missed.sum()),
        resamples=config.bootstrap,
        figures=tuple(figures),
    )
    draft = context.draft("candidates")
    table = table_of(chosen, asked, roles.user, roles.item)
    pq.write_table(table, draft / "candidates.parquet")
    (draft / "report.json").write_text(report.model_dump_json(indent=2), encoding="utf-8")
    name = f"{model.contract.ranker} in {context.pipeline}"
    (draft / CandidatesTable.page.file).write_text(render(report, name), encoding="utf-8")
    context.note(f"{table.num_rows:,} candidates of {asked.users.num_rows:,} users")
    for line in headline(report):
        context.note(line)
    return Outputs(candidates=CandidatesTable(uri=str(draft)))


@dataclass(frozen=True)
class Search:
    """The vectors of what is asked, and every way to find candidates with them."""

    asked: Asking
    users: Vectors
    """float32 ``[U, D]``."""
    items: Vectors
    """float32 ``[I, D]``."""
    excluded: Pairs
    mixture: Asked | None
    """What several queries need."""

    @classmethod
    def of(cls, model: ServedModel, asked: Asking, config: Config) -> Search:
        """Place users and items.

        Raises:
            BadInputError: the ranker has no vectors, or there are fewer items than candidates or kinds.
        """
        from registry.serving.answers.retrieval import side_vectors

        users, items = side_vectors(model, asked.users, "user"), side_vectors(model, asked.items, "item")
        if config.at[-1] > len(items):
            raise BadInputError(
                f"at asks for {config.at[-1]:,} candidates of {len(items):,} items: lower it, or lengthen the window"
            )
        mixture = None
        if config.mixture is not None:
            around = side_vectors(model, asked.around, "user") if config.mixture.own < 1 else users[:0]
            mixture = mixture_of(asked, users, items, around, config.mixture)
        return cls(asked, users, items, asked.excluded, mixture)

    def single(self, k: int) -> Candidates:
        """Return what one query per user finds."""
        from components.judge.retrieve_candidates.mixture import single

        return single(self.users, self.items, k, self.excluded)

    def mixed(self, k: int) -> Candidates:
        """Return what several find, one where there is no mixture."""
        from components.judge.retrieve_candidates.mixture import mixed

        return mixed(self.mixture, self.items, k, self.excluded) if self.mixture is not None else self.single(k)

    def ways(self, k: int) -> dict[Way, Candidates]:
        """Return what every way finds, the most chosen items among them."""
        import numpy as np

        from components.judge.retrieve_candidates.mixture import single

        found: dict[Way, Candidates] = {"single": self.single(k)}
        if self.mixture is not None:
            found["mixture"] = self.mixed(k)
        everybody = np.ones((len(self.users), 1), dtype=np.float32)
        found["popular"] = single(everybody, self.asked.popularity[:, None].astype(np.float32), k, self.excluded)
        return found


def mixture_of(asked: Asking, users: Vectors, items: Vectors, around: Vectors, config: Mixture) -> Asked:
    """Return users with what they chose, by kind, and their nearest among those who chose something.

    Args:
        asked: who and what.
        users: float32 ``[U, D]``.
        items: float32 ``[I, D]``.
        around: float32 ``[P, D]`` of who may be a neighbour; of nobody where neighbours count for nothing.
        config: of the mixture.

    Raises:
        BadInputError: there are fewer items than kinds.
    """
    import numpy as np

    from components.data.assign_semantic_ids.quantise import kmeans, nearest
    from components.judge.retrieve_candidates.mixture import NOBODY, Asked, Chosen
    from registry.serving.answers.retrieval import retrieve

    if config.clusters > len(items):
        raise BadInputError(f"mixture.clusters is {config.clusters:,} of {len(items):,} items: lower it")
    kinds = nearest(items, kmeans(items, config.clusters, np.random.default_rng(config.seed)))
    neighbours = np.full((len(users), 0), NOBODY, dtype=np.int64)
    if len(around):
        near = retrieve(users, around, min(config.neighbours, len(around)), asked.same)
        neighbours = np.where(np.isfinite(near.scores), near.items, NOBODY)
    lent = asked.lent if len(around) else asked.lent[:0]
    return Asked(
        vectors=users,
        chosen=Chosen.of(asked.chosen, len(users), items, kinds, config.clusters),
        around=Chosen.of(lent, len(around), items, kinds, config.clusters),
        neighbours=neighbours,
        own=config.own,
    )


def table_of(found: Candidates, asked: Asking, user: str, item: str) -> pa.Table:
    """Return one row per user and candidate: both ids, rank from 1, score and the kind whose query found it."""
    import numpy as np
    import pyarrow as pa

    row, place = np.nonzero(found.items >= 0)
    kinds = found.kinds[row, place]
    return pa.table(
        {
            user: asked.users[user].combine_chunks().take(pa.array(row)),
            "rank": pa.array((place + 1).astype(np.int32)),
            item: asked.items[item].combine_chunks().take(pa.array(found.items[row, place])),
            "score": pa.array(found.scores[row, place]),
            "kind": pa.array(kinds.astype(np.int32), mask=kinds < 0),
        }
    )
