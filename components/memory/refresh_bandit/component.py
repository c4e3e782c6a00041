"""How does the champion get its bandit? Vectors of the stream's users → clusters → sums per cluster and item."""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.memory.refresh_bandit.config import Config, Inputs, Outputs
from components.platform.artifacts import Bandit
from components.platform.contract import RunContext
from components.platform.errors import BadInputError, no_columns

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

    from registry.memory.bandit import Bandit as State
    from registry.serving.model.contract import RegisteredVersion
    from registry.serving.model.served_model import ServedModel

MOST_EDGES = 50_000_000
"""Clusters × items: 800 MB of sums."""


def run(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Build the champion's bandit from scratch: equal champion and rows give equal bytes.

    Raises:
        MissingError: the model has no champion.
        BadInputError: the rows do not fit the champion, or its ranker has no vectors of users.
    """
    from components.data.training_set import labelled_files
    from components.memory.refresh_bandit.page import write_report
    from components.memory.refresh_error_memory.champion import champion_of
    from components.memory.refresh_error_memory.stream import check_readable
    from registry.serving.answers.answer import columns_of
    from registry.serving.answers.by_block import blocks_for
    from registry.serving.model.served_model import CHUNK

    version, champion = champion_of(config.model, config.provider, context)
    declaration = champion.contract.schema_.declaration
    folder = context.local(inputs.dataset)
    # What the champion was trained on is known of an item as well as what came later.
    files = labelled_files(folder)
    roles = (declaration.user, declaration.item, declaration.time, *declaration.feedback)
    for file in files:
        if absent := [name for name in roles if name not in file.column_names]:
            raise BadInputError(
                f"the rows have {no_columns(absent, file.column_names)}: build the training set as the champion's was"
            )
        check_readable(folder, {*columns_of(champion, file.column_names), declaration.item})
    context.progress(f"{sum(file.num_rows for file in files)} labelled rows")
    blocks = (block for file in files if file.num_rows for block in blocks_for(champion, file, CHUNK, roles))
    state = counted(blocks, champion, version, config)
    draft = context.draft("bandit")
    state.save(draft)
    report = write_report(draft, state)
    context.note(
        f"bandit of {version.model} v{version.version}: {state.header.rows} rows, {len(state.items)} items in "
        f"{len(state.centres)} clusters; the bonus is {report.least:.4f} to {report.most:.4f}"
    )
    context.annotate("model_version", f"{version.model}/{version.version}")
    return Outputs(bandit=Bandit(uri=str(draft)))


def counted(blocks: Iterable[pa.Table], champion: ServedModel, version: RegisteredVersion, config: Config) -> State:
    """Return the clusters of the rows' users and the sums of every cluster and item.

    Raises:
        BadInputError: the ranker has no vectors of users, a feedback is unknown, or clusters × items are too many.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from components.memory.refresh_error_memory.stream import microseconds
    from registry.memory.bandit import Bandit as State
    from registry.memory.bandit import BanditHeader, clustered, mixture, sums
    from registry.memory.prequential import span
    from registry.serving.answers.answer import answer
    from registry.serving.model.separable import user_vectors

    declaration = champion.contract.schema_.declaration
    feedback = config.feedback or declaration.feedback[0]
    if feedback not in declaration.feedback:
        raise BadInputError(f"feedback {feedback!r} is not one of the champion's: {', '.join(declaration.feedback)}")
    vectors, kept = [], []
    for block in blocks:
        told = block.filter(pc.and_(pc.is_valid(block[feedback]), pc.is_valid(block[declaration.item])))
        if told.num_rows:
            vectors.append(user_vectors(champion, answer(champion, told).hidden))
            kept.append(told.select([declaration.item, declaration.time, feedback]))
    if not kept:
        raise BadInputError(f"no row has both {feedback!r} and {declaration.item!r}: wait for newer labels")
    rows, users = pa.concat_tables(kept), np.concatenate(vectors)
    column = rows[declaration.item].combine_chunks()
    items = pc.unique(column)
    items = items.take(pc.sort_indices(items))
    if config.clusters * len(items) > MOST_EDGES:
        raise BadInputError(
            f"{config.clusters} clusters × {len(items):,} items are more sums than {MOST_EDGES:,}: lower clusters"
        )
    centres = clustered(users, config.clusters, config.seed)
    at = pc.index_in(column, value_set=items).to_numpy(zero_copy_only=False).astype(np.int64)
    reward = np.asarray(rows[feedback].cast(pa.float64()).to_numpy(), dtype=np.float64)
    d, b = sums(mixture(users, centres, config.nearest), at, reward, len(items))
    header = BanditHeader(
        model=version.model,
        version=version.version,
        ranker_digest=champion.contract.ranker_digest,
        item=declaration.item,
        feedback=feedback,
        alpha=config.alpha,
        nearest=config.nearest,
        covers=span(microseconds(rows, declaration.time)),
        rows=rows.num_rows,
    )
    return State(header, centres, items, 1.0 + d, b)
