"""Which settings of `refresh_error_memory` cannot be meant?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from components.memory.refresh_error_memory.config import Config
from registry.memory.spec import ExactStore, SketchStore

ROOT = Path(__file__).resolve().parents[4]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lambdas": (0.0, 1.5)}, "between 0 and 1, not 1.5"),
        ({"lambdas": ()}, "at least 1 item"),
        ({"arrays": 1024, "bits": 20}, "lower arrays or bits"),
        ({"slots": 1}, "greater than or equal to 2"),
        ({"seed": -1}, "greater than or equal to 0"),
        ({"decay": 0.0}, "greater than 0"),
        ({"decay": 1.1}, "less than or equal to 1"),
        ({"halflife": 0.5}, "Extra inputs are not permitted"),
        ({"store": {"kind": "faiss"}}, "'sketch', 'exact'"),
        ({"store": {"kind": "exact", "bits": 4}}, "Extra inputs are not permitted"),
        ({"store": {"kind": "exact"}, "bits": 4}, "put them into store, or leave store out"),
        ({"store": {"kind": "exact", "capacity": 0}}, "greater than or equal to 1"),
        ({"key": "last_layer"}, "'hidden', 'hidden_user' or 'embedding'"),
    ],
)
def test_impossible_settings_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config.model_validate({"model": "ranker", **values})


def test_the_paper_s_largest_memory_is_allowed() -> None:
    chosen = Config(model="ranker", arrays=180, bits=16).chosen_store()
    assert isinstance(chosen, SketchStore) and chosen.arrays << chosen.bits == 11_796_480


def test_a_store_is_chosen_by_its_kind_and_brings_its_own_temperature() -> None:
    flat = Config.model_validate({"model": "ranker", "bits": 8})
    nested = Config.model_validate({"model": "ranker", "store": {"kind": "sketch", "bits": 8}})
    assert flat.chosen_store() == nested.chosen_store() == SketchStore(arrays=64, bits=8)
    exact = Config.model_validate({"model": "ranker", "store": {"kind": "exact", "neighbours": 180}})
    assert exact.chosen_store() == ExactStore(neighbours=180)
    assert (flat.read_out().temperature, exact.read_out().temperature) == (1.0, 0.1)
    told = Config.model_validate({"model": "ranker", "store": {"kind": "exact"}, "temperature": 0.5})
    assert told.read_out().temperature == 0.5


def test_config_and_pointer_import_no_engine() -> None:
    """A plan reads the first, a server that finds no memory the second."""
    code = """
import sys
import components.memory.refresh_error_memory.config, components.memory.refresh_error_memory.pointer
print(sorted({"numpy", "pyarrow", "mlflow", "onnxruntime", "matplotlib", "torch", "faiss"} & set(sys.modules)))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"
