"""How do words become few numbers without anybody's model? Weighed by rarity, and their main directions kept (LSA).

Deerwester et al., "Indexing by Latent Semantic Analysis", JASIS 1990.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from components.data.embed_text.config import Config
from components.platform.errors import BadInputError

if TYPE_CHECKING:
    import polars as pl

_WORD = re.compile(r"\w+")


def tokens_of(columns: pl.DataFrame) -> list[list[str]]:
    """Return the tokens of each row: words of texts, lower case; elements of lists, with their column's name."""
    import polars as pl

    made: list[list[str]] = [[] for _ in range(len(columns))]
    for name, dtype in columns.schema.items():
        for row, value in enumerate(columns[name].to_list()):
            if value is None:
                continue
            if isinstance(dtype, pl.List):
                made[row] += [f"{name}={element}" for element in value if element is not None]
            elif dtype == pl.String:
                made[row] += _WORD.findall(value.lower())
            else:
                made[row].append(f"{name}={value}")
    return made


def embedded(
    texts: Sequence[Sequence[str]], seen: NDArray[np.bool_], config: Config, draft: Path
) -> tuple[NDArray[np.float32], str, int]:
    """Return float32 ``[items, width]``, what stands for what was learned, and how many words are known.

    Directions have the sign that makes their largest number positive. What was learned is written beside the vectors.

    Args:
        texts: tokens by item.
        seen: ``[items]``, which are learned from.
        config: `width`, `min_df`, `seed`.
        draft: folder.

    Raises:
        BadInputError: the texts hold too few words for the width.
    """
    from safetensors.numpy import save_file
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    chosen = np.flatnonzero(seen)
    counter = TfidfVectorizer(analyzer=_itself, min_df=min(config.min_df, len(chosen)))
    try:
        weighed = counter.fit_transform([texts[int(at)] for at in chosen])
    except ValueError:  # scikit-learn's word for no word left
        weighed = None
    least = 0 if weighed is None else min(weighed.shape)
    if weighed is None or least < config.width:
        found = 0 if weighed is None else weighed.shape[1]
        raise BadInputError(
            f"the texts of {len(chosen):,} items hold {found:,} words that stand in "
            f"{config.min_df} of them, too few for {config.width} numbers: lower width or min_df, or name more columns"
        )
    turned = TruncatedSVD(config.width, algorithm="randomized", n_iter=10, random_state=config.seed).fit(weighed)
    directions = turned.components_
    largest = directions[np.arange(config.width), np.abs(directions).argmax(axis=1)]
    directions = np.ascontiguousarray(directions * np.sign(largest)[:, None], dtype=np.float32)
    words = {word: int(place) for word, place in sorted(counter.vocabulary_.items())}
    vocabulary = json.dumps(words, ensure_ascii=False, indent=1)
    (draft / "vocabulary.json").write_text(vocabulary, encoding="utf-8")
    idf = np.asarray(counter.idf_, dtype=np.float32)
    save_file({"components": directions, "idf": idf}, str(draft / "components.safetensors"))
    learned = hashlib.sha256(vocabulary.encode() + directions.tobytes() + idf.tobytes()).hexdigest()
    values = np.asarray(counter.transform(texts) @ directions.T, dtype=np.float32)
    return values, f"tfidf {learned[:16]}", len(words)


def _itself(tokens: Sequence[str]) -> Sequence[str]:
    return tokens
