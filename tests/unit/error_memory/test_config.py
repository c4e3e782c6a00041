"""Which settings of `refresh_error_memory` cannot be meant?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from components.refresh_error_memory.config import Config

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lambdas": (0.0, 1.5)}, "between 0 and 1, not 1.5"),
        ({"lambdas": ()}, "at least 1 item"),
        ({"arrays": 1024, "bits": 20}, "lower arrays or bits"),
        ({"slots": 1}, "greater than or equal to 2"),
        ({"seed": -1}, "greater than or equal to 0"),
        ({"decay": 0.5}, "Extra inputs are not permitted"),
    ],
)
def test_impossible_settings_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config.model_validate({"model": "ranker", **values})


def test_the_paper_s_largest_memory_is_allowed() -> None:
    assert Config(model="ranker", arrays=180, bits=16).arrays << 16 == 11_796_480


def test_config_and_pointer_import_no_engine() -> None:
    """A plan reads the first, a server that finds no memory the second."""
    code = """
import sys
import components.refresh_error_memory.config, components.refresh_error_memory.pointer
print(sorted({"numpy", "pyarrow", "mlflow", "onnxruntime", "matplotlib", "torch"} & set(sys.modules)))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"
