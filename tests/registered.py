"""The rankers and parts of this tree, for tests that go through all of them."""

from __future__ import annotations

from components.rankers.config import ComposedConfig, options_of
from components.rankers.registration import ours

RANKERS, EMBEDDINGS, SEQUENCES, INTERACTIONS, DOMAINS, HEADS, BACKBONES = (
    ours()[kind] for kind in ("ranker", "embedding", "sequence", "interaction", "domain", "head", "backbone")
)
"""Name → config class."""
OPTIONS = {name: options_of(config) for name, config in RANKERS.items()}
COMPOSED = sorted(name for name, config in RANKERS.items() if issubclass(config, ComposedConfig))
