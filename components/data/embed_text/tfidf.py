"""How do words become few numbers without anybody's model? Weighed by rarity, and their main directions kept (LSA).

Deerwester et al., "Indexing by Latent Semantic Analysis", JASIS 1990.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from components.data.embed_text.config import Config
from components.platform.errors import BadInputError

if TYPE_CHECKING:
    import polars as pl

WORDS, COMPONENTS = "vocabulary.json", "components.safetensors"
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


@dataclass(frozen=True)
class Learned:
    """What the texts of some items taught."""

    words: dict[str, int]
    """Number of each known word."""
    idf: NDArray[np.float32]
    """float32 ``[words]``, the larger the fewer texts hold the word."""
    directions: NDArray[np.float32]
    """float32 ``[width, words]``."""

    def vectors(self, texts: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        """Return float32 ``[texts, width]``; zero for a text without a known word."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        counter = TfidfVectorizer(analyzer=_itself, vocabulary=self.words)
        counter.idf_ = self.idf.astype(np.float64)
        return np.asarray(counter.transform(texts) @ self.directions.T, dtype=np.float32)

    @property
    def made_by(self) -> str:
        """What stands for it: equal where vectors can be compared."""
        made = hashlib.sha256(self._vocabulary().encode() + self.directions.tobytes() + self.idf.tobytes())
        return f"tfidf {made.hexdigest()[:16]}"

    def write(self, folder: Path) -> None:
        """Write it beside the vectors."""
        from safetensors.numpy import save_file

        (folder / WORDS).write_text(self._vocabulary(), encoding="utf-8")
        save_file({"components": self.directions, "idf": self.idf}, str(folder / COMPONENTS))

    @classmethod
    def read(cls, folder: Path) -> Learned:
        """Return what was written.

        Raises:
            FileNotFoundError: there is none.
            ValueError, KeyError, SafetensorError: it cannot be read.
        """
        from safetensors.numpy import load_file

        words = json.loads((folder / WORDS).read_text(encoding="utf-8"))
        tensors = load_file(str(folder / COMPONENTS))
        return cls(words, tensors["idf"], tensors["components"])

    def _vocabulary(self) -> str:
        return json.dumps(self.words, ensure_ascii=False, indent=1)


def learn(texts: Sequence[Sequence[str]], config: Config) -> Learned:
    """Return what the tokens of texts teach.

    Directions have the sign that makes their largest number positive.

    Raises:
        BadInputError: the texts hold too few words for the width.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    counter = TfidfVectorizer(analyzer=_itself, min_df=min(config.min_df, len(texts)))
    try:
        weighed = counter.fit_transform(texts)
    except ValueError:  # scikit-learn's word for no word left
        weighed = None
    if weighed is None or min(weighed.shape) < config.width:
        found = 0 if weighed is None else weighed.shape[1]
        raise BadInputError(
            f"the texts of {len(texts):,} items hold {found:,} words that stand in {config.min_df} of them, too few "
            f"for {config.width} numbers: lower width or min_df, or name more columns"
        )
    turned = TruncatedSVD(config.width, algorithm="randomized", n_iter=10, random_state=config.seed).fit(weighed)
    directions = turned.components_
    largest = directions[np.arange(config.width), np.abs(directions).argmax(axis=1)]
    directions = np.ascontiguousarray(directions * np.sign(largest)[:, None], dtype=np.float32)
    words = {word: int(place) for word, place in sorted(counter.vocabulary_.items())}
    return Learned(words, np.asarray(counter.idf_, dtype=np.float32), directions)


def _itself(tokens: Sequence[str]) -> Sequence[str]:
    return tokens
