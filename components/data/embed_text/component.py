"""How do the texts of items become vectors? One text per item, as it was first known, through an encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.data.embed_text.config import Config, Inputs, Outputs
from components.ingest.item_vectors import HEADER, Vectors, local_folder, read_header, write_vectors
from components.platform.artifacts import ItemVectors
from components.platform.contract import RunContext
from components.platform.errors import BadInputError, MissingError, no_columns

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from components.data.embed_text.tfidf import Learned

TIME = "event_timestamp"
_FIRST, _SEEN = "__first", "__seen"


def run(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Write a vector for every item that has a text.

    Raises:
        BadInputError: a column is missing or holds no texts, the texts are too few for the width, or a model cannot be
            read.
    """
    import numpy as np

    from components.data.embed_text.tfidf import tokens_of

    items = read_items(context.local(inputs.table) / f"{config.log or 'events'}.parquet", config)
    draft = context.draft("vectors")
    if config.encoder == "tfidf":
        texts = tokens_of(items.select(config.columns))
        learned, until = _learned(texts, items, config, context)
        learned.write(draft)
        values, made_by = learned.vectors(texts), learned.made_by
        told = np.abs(values).sum(axis=1) > 0
        context.note(f"{len(learned.words):,} words" + (f", known before {until}" if until else ""))
    else:
        lines = sentences(items.select(config.columns))
        told = np.array([bool(line) for line in lines])
        encode, made_by = _model(config, context)
        until = None
        values = np.asarray(encode(lines), dtype=np.float32)
    kept = np.flatnonzero(told)
    ids = items[config.key].gather(kept).to_arrow()
    values = np.asarray(values[kept], dtype=config.dtype)
    header = write_vectors(draft, Vectors(_plain(ids), values), config.key, made_by, until)
    silent = len(items) - len(kept)
    context.note(
        f"{header.items:,} items in {header.width} numbers of {header.dtype}; {silent:,} have no word that it knows"
    )
    return Outputs(vectors=ItemVectors(uri=str(draft)))


def read_items(file: Path, config: Config) -> pl.DataFrame:
    """Return one row per item, sorted: its texts of the first row that has it, and whether that is early enough.

    Raises:
        BadInputError: the log or a column is missing, or no item is early enough.
    """
    import polars as pl

    if not file.is_file():
        raise BadInputError(f"the table has no log {config.log!r}: name one of its logs, or leave log out")
    frame = pl.scan_parquet(file)
    known = frame.collect_schema().names()
    wanted = [config.key, *config.columns]
    if absent := [name for name in wanted if name not in known]:
        raise BadInputError(f"the table has {no_columns(absent, known)}: name another, or publish it")
    if TIME not in known:
        once = frame.select(wanted).drop_nulls(config.key).unique(config.key, keep="first", maintain_order=True)
        return once.sort(config.key).with_columns(pl.lit(value=True).alias(_SEEN)).collect()
    rows = frame.select(*wanted, TIME).drop_nulls(config.key).sort(TIME, maintain_order=True).collect()
    limit = config.learns_until(rows[TIME])
    first = rows.unique(config.key, keep="first", maintain_order=True).rename({TIME: _FIRST}).sort(config.key)
    early = pl.lit(value=True) if limit is None else pl.col(_FIRST) < limit
    first = first.with_columns(early.alias(_SEEN))
    if not first[_SEEN].any():
        raise BadInputError(f"no item is earlier than {limit}: learn from more with fit_before or fit_share")
    return first


def _learned(
    texts: Sequence[Sequence[str]], items: pl.DataFrame, config: Config, context: RunContext
) -> tuple[Learned, datetime | None]:
    """Return what texts are weighed by, and until when it had looked: of an earlier run, or of early items.

    Raises:
        MissingError: there is no earlier one.
        BadInputError: it cannot be read, or the texts are too few for the width.
    """
    from safetensors import SafetensorError

    from components.data.embed_text.tfidf import COMPONENTS, WORDS, Learned, learn

    if config.reuse is None:
        chosen = [words for words, seen in zip(texts, items[_SEEN].to_list(), strict=True) if seen]
        times: Any = items.filter(items[_SEEN])[_FIRST].max() if _FIRST in items.columns else None
        return learn(chosen, config), config.fit_before or times
    folder = local_folder(config.reuse, (WORDS, COMPONENTS, HEADER), context.settings.data, context.scratch / "reused")
    try:
        return Learned.read(folder), read_header(folder).known_until
    except FileNotFoundError:
        raise MissingError(f"reuse: {config.reuse} holds no {WORDS}: name the `vectors` of an earlier run") from None
    except (SafetensorError, ValueError, KeyError) as error:
        raise BadInputError(f"reuse: what {config.reuse} holds cannot be read ({error}): learn anew") from None


def sentences(columns: pl.DataFrame) -> list[str]:
    """Return one text per row, columns one after the other.

    Raises:
        BadInputError: a column is no text or list of texts.
    """
    import polars as pl

    parts = []
    for name, dtype in columns.schema.items():
        if dtype == pl.List(pl.String):
            parts.append(pl.col(name).list.join(", ", ignore_nulls=True).fill_null(""))
        elif dtype == pl.String:
            parts.append(pl.col(name).fill_null(""))
        else:
            raise BadInputError(f"column {name!r} is {dtype}, and a language model reads texts: leave it out")
    return columns.select(pl.concat_str(parts, separator=". ").str.strip_chars(" .")).to_series().to_list()


def _model(config: Config, context: RunContext) -> tuple[Callable[[Sequence[str]], NDArray[np.float32]], str]:
    """Return what encodes texts, and what stands for it.

    Raises:
        BadInputError: its library is not installed, or it cannot be read.
    """
    library = {"sentence_transformers": "sentence-transformers", "wordllama": "wordllama"}[config.encoder]
    try:
        if config.encoder == "wordllama":
            import wordllama

            # Its wheel holds tokenizer and weights, where it looks for what was downloaded earlier only.
            inside = Path(wordllama.__file__).parent
            model = wordllama.WordLlama.load(cache_dir=inside, disable_download=True)
            return model.embed, f"wordllama {_version(library)}"
        from sentence_transformers import (
            SentenceTransformer,
        )
    except ImportError as error:
        raise BadInputError(
            f"encoder {config.encoder!r} needs a library that is not installed ({error}): pip install {library}"
        ) from None
    path = str(config.path)
    folder = context.settings.data / path.removeprefix("data://") if path.startswith("data://") else Path(path)
    if not folder.is_dir():
        raise BadInputError(f"path: there is no folder {folder}: put the model there, nothing is downloaded")
    encoder = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    return encoder.encode, f"sentence-transformers {_version(library)} {_folder_digest(folder)[:16]}"


def _version(library: str) -> str:
    from importlib.metadata import version

    return version(library)


def _folder_digest(folder: Path) -> str:
    from features.ground.files import sha256_file

    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{path.relative_to(folder)} {sha256_file(path)}" for path in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _plain(ids: Any) -> Any:
    """Return ids as int64 or string."""
    import pyarrow as pa

    return ids.cast(pa.int64() if pa.types.is_integer(ids.type) else pa.string())
