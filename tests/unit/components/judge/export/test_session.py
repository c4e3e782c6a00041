"""Is the provider that was asked for the one that runs, and is a broken file one sentence?"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from components.platform.settings import ROOT
from features.ground.errors import BadInputError, MissingError
from registry.serving.model.session import bound_outputs, open_session, outputs_of, provider_name
from tests.unit.components.judge.export.conftest import Exported


def _cuda_loads(path: Path) -> bool:
    return provider_name(open_session(path, "auto")) == "cuda"


def test_cpu_is_taken_when_asked_for(esmm: Exported) -> None:
    assert provider_name(open_session(esmm.graph, "cpu", threads=1)) == "cpu"


def test_auto_falls_back_in_silence_where_no_gpu_is_seen(esmm: Exported) -> None:
    """On any machine: a process that may see no GPU gets the CPU, and nothing is said on the terminal."""
    code = (
        "import sys; from pathlib import Path; from registry.serving.model.session import open_session, provider_name;"
        "print(provider_name(open_session(Path(sys.argv[1]), 'auto')))"
    )
    hidden = os.environ | {"CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, "-c", code, str(esmm.graph)]
    done = subprocess.run(command, cwd=ROOT, env=hidden, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("cpu\n", "")


def test_cuda_that_does_not_load_is_an_error(esmm: Exported, capfd: pytest.CaptureFixture[str]) -> None:
    if _cuda_loads(esmm.graph):
        pytest.skip("CUDA loads here")
    with pytest.raises(MissingError, match="'cuda' was asked for and CPUExecutionProvider loaded") as error:
        open_session(esmm.graph, "cuda")
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("keep", [0, 1, 100, 5000])
def test_a_truncated_file_is_one_sentence(esmm: Exported, tmp_path: Path, keep: int) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(esmm.graph.read_bytes()[:keep])
    with pytest.raises(BadInputError, match="export the ranker again") as error:
        open_session(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_an_opset_of_the_future_is_one_sentence(esmm: Exported, tmp_path: Path) -> None:
    model = onnx.load(str(esmm.graph))
    model.opset_import[0].version = 9999
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BadInputError, match="export the ranker again") as error:
        open_session(tmp_path / "m.onnx", "cpu")
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"no ONNX file at .*nothing\.onnx"):
        open_session(tmp_path / "nothing.onnx")


@pytest.mark.parametrize("history", [1, 8])
@pytest.mark.parametrize("rows", [1, 7, 300])
def test_outputs_that_are_bound_are_those_of_a_call(exported: Exported, rows: int, history: int) -> None:
    session = open_session(exported.graph, "cpu")
    feed = {
        name: values[:rows, :history] if name.startswith(("recent", "genres")) else values[:rows]
        for name, values in exported.test.padded().items()
    }
    names = ["hidden", *exported.tasks]  # any order, not the graph's
    called, bound = outputs_of(session, names, feed), bound_outputs(session, names, feed)
    assert [values.dtype for values in bound] == [np.float32] * len(names)
    for one, other in zip(called, bound, strict=True):
        np.testing.assert_array_equal(one, other)
    again = bound_outputs(session, names[1:2], feed)[0]
    assert not np.shares_memory(again, bound[1]), "what was returned stays as it is"
