"""How are a ranker's weights kept, and how is a trained ranker read back? Safetensors and JSON, no pickle."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from components.data.training_set import read_schema
from components.platform.errors import StorageError
from components.rankers.config import RankerConfig

if TYPE_CHECKING:
    from torch import nn

    from components.rankers.base import RankerModule

WEIGHTS = "weights.safetensors"
CONFIG = "ranker.json"


def write_weights(path: Path, ranker: nn.Module) -> None:
    """Replace `path` by the module's state (parameters and buffers) at once: old or new, never a part."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    state = {name: value.detach().cpu().contiguous() for name, value in ranker.state_dict().items()}
    try:
        save_file(state, str(partial))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load_ranker(directory: Path) -> RankerModule:
    """Return the trained module of a `Ranker` artifact, on the CPU and in evaluation mode.

    Raises:
        StorageError: the weights do not belong to this configuration and schema.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from components.rankers.build import build_ranker

    config = RankerConfig.model_validate_json((directory / CONFIG).read_text(encoding="utf-8"))
    ranker = build_ranker(config, read_schema(directory))
    try:
        ranker.load_state_dict(load_file(str(directory / WEIGHTS)))
    except (RuntimeError, SafetensorError) as error:
        first = str(error).strip().splitlines()[0]
        raise StorageError(
            f"{directory / WEIGHTS} does not fit ranker {config.name!r}: {first}; train the ranker again"
        ) from error
    ranker.eval()
    return ranker
