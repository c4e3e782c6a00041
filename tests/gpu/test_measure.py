"""Does the script for machines with a GPU work, as far as a CPU can say?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.gpu.measure import main
from tests.stages import ROOT


@pytest.mark.engine
def test_every_part_is_measured_on_a_cpu(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    assert main(["--device", "cpu", "--quick", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert all(case["share"] > 0 for name, case in found["training"].items() if name != "seconds")
    assert max(found["parity_of_training"]["largest_difference_after_20_steps"].values()) == 0.0
    for name, case in found["copying"].items():
        assert name == "seconds" or all(0 < told["p50"] <= told["p99"] for told in case.values())
    scored = {name: case for name, case in found["scoring"].items() if name != "seconds"}
    assert {name.rpartition(", ")[2] for name in scored} == {"float32", "float16"}
    for name, case in scored.items():
        assert all(0 < case[way]["p50"] <= case[way]["p99"] for way in ("run", "served", "bound"))
        assert case["largest_difference"] < (1e-6 if name.endswith("float32") else 1e-2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU, so the script runs")
def test_without_a_gpu_it_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path / "gpu.json")]) == 2
    assert "sees no CUDA device" in capsys.readouterr().err


def test_the_shell_script_ends_in_time() -> None:
    assert "timeout 480" in (ROOT / "tests" / "gpu" / "run.sh").read_text()
