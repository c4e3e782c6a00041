"""How does a training set get vectors of its values? Row by row of its vocabulary, which grows by the cold ones."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.data.attach_vectors.config import Attached, Config, Inputs, Outputs
from components.data.table_vectors import ATTACHED, TableVectors, write_table
from components.data.training_set import SPLITS, read_encoded, read_raw, read_schema, write_encoded
from components.ingest.item_vectors import Vectors, VectorsHeader, read_header, read_vectors
from components.platform.artifacts import TrainingSet
from components.platform.contract import RunContext
from components.platform.errors import BadInputError, did_you_mean
from features.declaration import FIRST, RankerSchema

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from features.encoding.encoder import Encoder

NAMED = 10
"""How many values without a vector are named."""


def run(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Write the training set with vectors beside it.

    Raises:
        BadInputError: the field has no vocabulary, its ids are of another type, or too few rows have a vector.
    """
    from features.encoding.files import read_encoder, write_encoder
    from features.services.served import FEATURES
    from registry.serving.incoming import placed

    dataset, given = context.local(inputs.dataset), context.local(inputs.vectors)
    schema, encoder, header = read_schema(dataset), read_encoder(dataset), read_header(given)
    table = table_of(schema, encoder, config.field or schema.declaration.item)
    vectors = of_type(read_vectors(given), encoder.vocabularies[table].values)
    covered = coverage(dataset, schema, config, vectors)
    grown, held, found = attach(encoder, table, vectors, config, header.made_by)
    fields = {field.name: field for field in grown.fields}
    written = schema.model_copy(update={"fields": tuple(fields[field.name] for field in schema.fields)})
    draft = context.draft("training_set")
    shutil.copytree(dataset / "raw", draft / "raw")
    if (dataset / ATTACHED).is_dir():
        shutil.copytree(dataset / ATTACHED, draft / ATTACHED)
    for name in ("report.json", FEATURES):
        if (dataset / name).exists():  # a training set of another package may lack it
            shutil.copy(dataset / name, draft / name)
    changed = of_streams(grown, table)
    for split in SPLITS:
        raw, encoded = read_raw(dataset, split, changed.columns, shared=True), read_encoded(dataset, split, schema)
        raw = raw if split == "train" else placed(raw, schema.declaration)
        features = {**encoded.features, **changed.encode_slices(raw)}
        write_encoded(draft / "encoded" / f"{split}.arrow", replace(encoded, features=features, pages=None))
    (draft / "schema.json").write_text(written.model_dump_json(indent=2), encoding="utf-8")
    write_encoder(grown, draft)
    write_table(draft, table, held)
    report = Attached(
        vectors=inputs.vectors.digest,
        made_by=header.made_by,
        width=held.vectors.shape[1],
        known=found.known,
        without=len(found.without),
        named_without=tuple(found.without[:NAMED]),
        cold=found.cold,
        covered=covered,
    )
    (draft / ATTACHED / f"{table}.json").write_text(report.model_dump_json(indent=2), encoding="utf-8")
    for line in _told(report, table, header, schema):
        context.note(line)
    return Outputs(training_set=TrainingSet(uri=str(draft)))


def table_of(schema: RankerSchema, encoder: Encoder, name: str) -> str:
    """Return the table of a field.

    Raises:
        BadInputError: there is no such field, it has no vocabulary, or its values have vectors already.
    """
    fields = {field.name: field for field in schema.fields}
    if name not in fields:
        raise BadInputError(f"the training set has no field {name!r}{did_you_mean(name, fields)}: name one in field")
    table = fields[name].table
    if table not in encoder.vocabularies:
        raise BadInputError(f"field {name!r} has no vocabulary, whose values vectors could be of: encode it as one")
    if fields[name].content:
        raise BadInputError(f"the values of table {table!r} have vectors already: attach others to another field")
    return str(table)


def of_streams(encoder: Encoder, table: str) -> Encoder:
    """Return the encoder of the fields of one table alone, and of what stands beside them in the same events."""
    from features.encoding.encoder import Encoder

    of_table = [field for field in encoder.fitted if field.table == table]
    times = {field.timed_by for field in of_table if field.timed_by}
    names = {field.name for field in of_table} | times
    chosen = (field for field in encoder.fitted if field.name in names or field.timed_by in times)
    return Encoder(tuple(chosen), encoder.vocabularies)


def of_type(vectors: Vectors, values: pa.Array) -> Vectors:
    """Return the vectors with items of the type of a vocabulary's values.

    Raises:
        BadInputError: one side has numbers, the other texts.
    """
    import pyarrow as pa

    numbers = pa.types.is_integer(values.type)
    if numbers != pa.types.is_integer(vectors.items.type):
        kinds = ("numbers", "texts") if numbers else ("texts", "numbers")
        raise BadInputError(
            f"the ids of the training set are {kinds[0]}, those of the vectors {kinds[1]}: make them alike"
        )
    return replace(vectors, items=vectors.items.cast(values.type))


def coverage(dataset: Path, schema: RankerSchema, config: Config, vectors: Vectors) -> float:
    """Return the share of training rows whose value has a vector.

    Raises:
        BadInputError: it is below `at_least`.
    """
    import pyarrow.compute as pc

    name = config.field or schema.declaration.item
    column = read_raw(dataset, "train", [name]).column(name)
    if "list" in str(column.type):
        column = pc.list_flatten(column)
    share = float(pc.mean(pc.is_in(column.cast(vectors.items.type), value_set=vectors.items)).as_py() or 0.0)
    if share < config.at_least:
        raise BadInputError(
            f"{share:.1%} of the training rows have a {name!r} with a vector, and at_least asks for "
            f"{config.at_least:.1%}: bring vectors of the same ids, or lower at_least"
        )
    return share


@dataclass(frozen=True)
class Found:
    """Which values have vectors."""

    known: int
    """How many that training held."""
    cold: int
    """How many that it did not."""
    without: list[str]
    """Values of the vocabulary that have none."""


def attach(
    encoder: Encoder, table: str, vectors: Vectors, config: Config, made_by: str
) -> tuple[Encoder, TableVectors, Found]:
    """Return the encoder that numbers values with vectors too, the vectors in its order, and what was found.

    Raises:
        BadInputError: all vectors are equal, or they are too wide.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from features.encoding.encoder import Encoder
    from features.encoding.vocabularies import ABSENT, Vocabulary

    before = encoder.vocabularies[table]
    new = vectors.items.filter(pc.invert(pc.is_in(vectors.items, value_set=before.values)))
    vocabulary = Vocabulary.sorted(pa.concat_arrays([before.values, new])) if config.cold and len(new) else before
    learned = np.concatenate([np.ones(FIRST), before.places(vocabulary.values) != ABSENT]).astype(np.uint8)
    places = pc.index_in(vocabulary.values, value_set=vectors.items).fill_null(-1).to_numpy().astype(np.int64)
    there = places >= 0
    trained = there & (learned[FIRST:] > 0)
    values = scaled(vectors.values.astype(np.float32), vectors.values[places[trained]].astype(np.float32), config)
    rows = np.zeros((FIRST + len(vocabulary), values.shape[1]), dtype=np.float32)
    rows[FIRST:][there] = values[places[there]]
    without = vocabulary.values.filter(pa.array(~there)).cast(pa.string()).to_pylist()
    fitted = tuple(
        field.model_copy(update={"content": rows.shape[1], "content_by": made_by}) if field.table == table else field
        for field in encoder.fitted
    )
    grown = Encoder(fitted, {**encoder.vocabularies, table: vocabulary})
    found = Found(int(trained.sum()), int((there & ~trained).sum()), without)
    return grown, TableVectors(rows, learned), found


def scaled(values: NDArray[np.float32], trained: NDArray[np.float32], config: Config) -> NDArray[np.float32]:
    """Return float32 ``[n, D]`` as the config centres, projects and scales them by the vectors of trained values.

    Args:
        values: ``[n, D]``, all vectors.
        trained: ``[m, D]``, those of values that training held.
        config: how.

    Raises:
        BadInputError: the trained ones are all equal, or fewer than the directions to keep.
    """
    import numpy as np

    known, every = trained.astype(np.float64), values.astype(np.float64)
    if not len(known) or not (spread := known - known.mean(axis=0)).any():
        raise BadInputError("the vectors of all items that training held are equal, so they tell nothing: make others")
    middle = known.mean(axis=0) if config.centre else np.zeros(known.shape[1])
    known, every = known - middle, every - middle
    if config.project is not None:
        if config.project > min(known.shape):
            raise BadInputError(
                f"project: {config.project} directions of {len(known):,} vectors of {known.shape[1]} numbers: lower it"
            )
        _, axes = np.linalg.eigh(spread.T @ spread)
        axes = axes[:, ::-1][:, : config.project]
        axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(config.project)])
        known, every = known @ axes, every @ axes
    if config.scale == "each":
        deviation = known.std(axis=0)
        deviation[deviation < 1e-9 * deviation.max()] = np.inf  # a number that never changes says nothing
        known, every = known / deviation, every / deviation
    if config.scale != "none":
        every = every / np.sqrt((known**2).sum(axis=1).mean())
    made: NDArray[Any] = np.ascontiguousarray(every, dtype=np.float32)
    return made


def _told(report: Attached, table: str, header: VectorsHeader, schema: RankerSchema) -> list[str]:
    lines = [
        f"{table}: {report.known:,} values of the training split have a vector of {report.width} numbers, "
        f"{report.covered:.1%} of its rows; {report.cold:,} others are known by theirs alone"
    ]
    if report.without:
        names = ", ".join(report.named_without) + (", …" if report.without > len(report.named_without) else "")
        lines.append(f"{table}: {report.without:,} values have no vector: {names}")
    until, trained = header.known_until, schema.trained_until
    if until is not None and trained is not None and until > trained:
        lines.append(
            f"the vectors know what was there until {until:%Y-%m-%d %H:%M}, later than training and validation "
            f"({trained:%Y-%m-%d %H:%M}): figures on test rows may be too good"
        )
    return lines
