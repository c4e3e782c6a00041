"""How does the champion get its bandit? Vectors of the stream's users → clusters → sums per cluster and item."""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.memory.refresh_bandit.config import Config, Inputs, Outputs
from components.platform.artifacts import Bandit
from components.platform.contract import RunContext
from components.platform.errors import BadInputError, no_columns

if TYPE_CHECKING:
    import pyarrow as pa

    from registry.memory.bandit import Bandit as State
    from registry.serving.contract import RegisteredVersion
    from registry.serving.served_model import ServedModel

MOST_EDGES = 50_000_000
"""Clusters × items: 800 MB of sums."""


def run(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Build the champion's bandit from scratch: equal champion and rows give equal bytes.

    Raises:
        MissingError: the model has no champion.
        BadInputError: the rows do not fit the champion, or its ranker has no vectors of users.
    """
    from components.data.training_set import read_labelled
    from components.memory.refresh_bandit.page import write_report
    from components.memory.refresh_error_memory.champion import champion_of
    from components.memory.refresh_error_memory.stream import check_readable
    from registry.serving.answer import columns_of

    version, champion = champion_of(config.model, config.provider, context)
    declaration = champion.contract.schema_.declaration
    folder = context.local(inputs.dataset)
    rows = read_labelled(folder)  # what the champion was trained on is known of an item as well as what came later
    wanted = (declaration.user, declaration.item, declaration.time, *declaration.feedback)
    if absent := [name for name in wanted if name not in rows.column_names]:
        raise BadInputError(
            f"the rows have {no_columns(absent, rows.column_names)}: build the training set as the champion's was"
        )
    check_readable(folder, {*columns_of(champion, rows.column_names), declaration.item})
    context.progress(f"{rows.num_rows} labelled rows")
    state = counted(rows, champion, version, config)
    draft = context.draft("bandit")
    state.save(draft)
    report = write_report(draft, state)
    context.note(
        f"bandit of {version.model} v{version.version}: {state.header.rows} rows, {len(state.items)} items in "
        f"{len(state.centres)} clusters; the bonus is {report.least:.4f} to {report.most:.4f}"
    )
    context.annotate("model_version", f"{version.model}/{version.version}")
    return Outputs(bandit=Bandit(uri=str(draft)))


def counted(rows: pa.Table, champion: ServedModel, version: RegisteredVersion, config: Config) -> State:
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
    from registry.serving.answer import answer
    from registry.serving.separable import user_vectors

    declaration = champion.contract.schema_.declaration
    feedback = config.feedback or declaration.feedback[0]
    if feedback not in declaration.feedback:
        raise BadInputError(f"feedback {feedback!r} is not one of the champion's: {', '.join(declaration.feedback)}")
    known = pc.and_(pc.is_valid(rows[feedback]), pc.is_valid(rows[declaration.item]))
    rows = rows.filter(known)
    if not rows.num_rows:
        raise BadInputError(f"no row has both {feedback!r} and {declaration.item!r}: wait for newer labels")
    users = user_vectors(champion, answer(champion, rows).hidden)
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
