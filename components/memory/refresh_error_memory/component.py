"""How does the champion get its error memory? Score the stream, replay it, publish memory and report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from components.memory.refresh_error_memory.config import Config, Inputs, Outputs
from components.platform.artifacts import ErrorMemory
from components.platform.contract import RunContext

if TYPE_CHECKING:
    from registry.memory.error_memory import Memory
    from registry.memory.prequential import Replay
    from registry.serving.model.contract import RegisteredVersion
    from registry.serving.model.served_model import ServedModel


def run(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Build the champion's memory from scratch: equal champion and rows give equal bytes.

    Raises:
        MissingError: the model has no champion, or no row is later than its training cut.
        BadInputError: the rows do not fit the champion.
    """
    from components.memory.refresh_error_memory.champion import champion_of
    from components.memory.refresh_error_memory.page import write_report

    version, champion = champion_of(config.model, config.provider, context)
    memory, result = replayed(inputs, config, context, version, champion)
    draft = context.draft("error_memory")
    header = memory.save(draft)
    write_report(draft, header, result.slots)
    context.note(f"memory of {version.model} v{version.version}: {header.rows} rows in {header.slots} slots")
    for name, task in header.tasks.items():
        if task.base_log_loss is None or task.log_loss is None:
            context.note(f"{name}: switched off, one slot cannot be judged")
        else:
            state = "" if task.enabled else ", switched off because it hurts"
            context.note(f"{name}: log-loss {task.base_log_loss:.4f} → {task.log_loss:.4f}, λ {task.weight:g}{state}")
    context.annotate("model_version", f"{version.model}/{version.version}")
    return Outputs(error_memory=ErrorMemory(uri=str(draft)))


def replayed(
    inputs: Inputs, config: Config, context: RunContext, version: RegisteredVersion, champion: ServedModel
) -> tuple[Memory, Replay]:
    """Return the memory after the whole stream, and how each slot fared before it was written."""
    import numpy as np

    from components.memory.refresh_error_memory.stored_keys import StoredKeys
    from components.memory.refresh_error_memory.stream import (
        check_readable,
        labels,
        microseconds,
        read_stream,
        user_groups,
    )
    from features.ground.pace import Pace
    from registry.memory.error_memory import Memory, MemoryHeader
    from registry.memory.keys import row_keys
    from registry.memory.prequential import Stream, replay, slot_bounds, span
    from registry.memory.stores import empty_store, fingerprint
    from registry.serving.answers.answer import answer, columns_of
    from registry.serving.answers.by_block import blocks_for, joined
    from registry.serving.model.served_model import CHUNK

    contract = champion.contract
    declaration = contract.schema_.declaration
    feedback = tuple(name for name in declaration.feedback if name in contract.tasks)
    rows = read_stream(context.local(inputs.dataset), declaration, contract.schema_.trained_until)
    context.progress(f"{rows.num_rows} labelled rows since {contract.schema_.trained_until:%Y-%m-%dT%H:%M:%SZ}")
    key = config.key_spec(declaration, contract.fields, contract.hidden)
    check_readable(context.local(inputs.dataset), {*columns_of(champion, rows.column_names), *key.columns})
    centre = np.asarray(contract.hidden_mean, dtype=np.float64) if config.centre else np.zeros(contract.hidden)
    read_out, chosen = config.read_out(), config.chosen_store()
    base: list[dict[str, Any]] = []
    pace = Pace("scoring", rows.num_rows, context.progress)

    def keys() -> Iterator[Any]:
        """Yield the keys of a block after the other, and keep what the champion answers to its rows."""
        for block in blocks_for(champion, rows, CHUNK, key.columns):
            answers = answer(champion, block)
            base.append({name: answers.base[name] for name in feedback})
            yield row_keys(key, answers.hidden, centre, block)
            pace.done(block.num_rows)

    stored = StoredKeys.written(context.scratch / "keys", keys(), key.width)
    stream = Stream(
        times=microseconds(rows.roles, declaration.time),
        users=user_groups(rows.roles, declaration.user),
        keys=stored,
        labels=labels(rows.roles, feedback),
        predicted=joined(base),
    )
    store = empty_store(chosen, key.width, config.seed, feedback)
    result = replay(
        stream, store, feedback, bounds=slot_bounds(stream.times, config.slots), read_out=read_out,
        grid=config.lambdas, funnel=declaration.funnel, decay=config.decay, progress=context.progress,
    )  # fmt: skip
    header = MemoryHeader(
        model=version.model,
        version=version.version,
        ranker_digest=contract.ranker_digest,
        feedback=feedback,
        funnel=declaration.funnel,
        key=key,
        store=chosen,
        seed=config.seed,
        projections=fingerprint(chosen, key.width, config.seed),
        read_out=read_out,
        decay=config.decay,
        tasks=result.tasks,
        covers=span(stream.times),
        rows=rows.num_rows,
        stored=store.rows,
        slots=len(result.slots),
    )
    return Memory(header=header, store=store, centre=centre), result
