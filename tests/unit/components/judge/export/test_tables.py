"""Do tables that lie beside their graphs lie there once, and is a graph refused that reads anything else?"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from safetensors.numpy import load_file

from components.judge.export_onnx import tables as module
from components.judge.export_onnx.graph import export_graph
from components.judge.export_onnx.half import write_halved
from components.judge.export_onnx.parity import compare, require
from components.judge.export_onnx.request import request_fields, request_ranker
from components.judge.export_onnx.tables import PAGE, Tables, remove_unread, write_table
from features.ground.errors import BadInputError
from registry.serving.model.session import open_session, outside
from tests.unit.components.judge.export.conftest import Exported

TABLE = "embedding.weight.safetensors"
SHORT = "embedding.weight.float16.safetensors"
FORMATS = {"F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32}
ROWS, REQUEST = "model.onnx", "request.onnx"


@dataclass(frozen=True)
class Beside:
    """Both graphs of a ranker, with the tables beside them."""

    folder: Path
    once: tuple[str, ...]

    def proved(self, esmm: Exported, tolerance: float = 1e-5) -> None:
        """Check that both graphs answer as torch does."""
        for name, once in ((ROWS, ()), (REQUEST, self.once)):
            session = open_session(self.folder / name, "cpu")
            precision = "float32" if tolerance < 1e-3 else "float16"
            rows = esmm.test.padded()
            require(compare(esmm.ranker, session, esmm.schema.fields, esmm.tasks, rows, tolerance, once, precision), "")


@contextmanager
def small() -> Iterator[None]:
    """Let tables of a few kilobytes be large."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ABOVE", 0)
        patch.setattr(module, "LEAST", 4096)
        yield


@pytest.fixture(scope="module")
def beside(esmm: Exported, tmp_path_factory: pytest.TempPathFactory) -> Beside:
    """Both graphs of ESMM; read-only."""
    with small():
        folder, tables = tmp_path_factory.mktemp("beside"), Tables.of(esmm.ranker)
    once = request_fields(esmm.schema, ())
    export_graph(esmm.ranker, esmm.schema, esmm.tasks, folder / ROWS, tables=tables)
    first = (folder / TABLE).stat().st_ino
    whole = request_ranker(esmm.ranker, esmm.schema, once)  # type: ignore[arg-type]
    export_graph(whole, esmm.schema, esmm.tasks, folder / REQUEST, once, tables)
    assert (folder / TABLE).stat().st_ino == first, "written again for the second graph"
    return Beside(folder, once)


@pytest.fixture
def copied(beside: Beside, tmp_path: Path) -> Beside:
    """What a test may damage."""
    return Beside(Path(shutil.copytree(beside.folder, tmp_path / "copied")), beside.once)


def test_a_small_ranker_keeps_its_tables_in_the_graph(esmm: Exported) -> None:
    assert Tables.of(esmm.ranker).weights == {}
    assert outside(esmm.graph) == {}


def test_both_graphs_name_one_file_that_any_reader_of_its_format_opens(beside: Beside, esmm: Exported) -> None:
    weight = esmm.ranker.get_parameter("embedding.weight").detach().numpy()
    assert TABLE in outside(beside.folder / ROWS) and TABLE in outside(beside.folder / REQUEST)
    names = {*outside(beside.folder / ROWS), *outside(beside.folder / REQUEST)}
    assert {path.name for path in beside.folder.glob("*.safetensors")} == names
    np.testing.assert_array_equal(load_file(beside.folder / TABLE)["embedding.weight"], weight)
    assert (beside.folder / TABLE).read_bytes()[PAGE:] == weight.tobytes()
    for name in (ROWS, REQUEST):
        assert weight[7:9].tobytes() not in (beside.folder / name).read_bytes()
    beside.proved(esmm)


def test_the_same_weights_give_the_same_files(beside: Beside, esmm: Exported, tmp_path: Path) -> None:
    with small():
        export_graph(esmm.ranker, esmm.schema, esmm.tasks, tmp_path / ROWS)
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (beside.folder / path.name).read_bytes()
    assert (tmp_path / TABLE).is_file()


def test_the_graph_answers_by_what_the_file_holds(copied: Beside, esmm: Exported) -> None:
    with (copied.folder / TABLE).open("r+b") as file:
        table = np.memmap(file, np.float32, "r+", PAGE)
        table += 0.5
        table.flush()
    with pytest.raises(Exception, match="differs from torch"):
        copied.proved(esmm)


def test_in_float16_the_tables_are_half_as_long_and_the_long_ones_go(
    copied: Beside, esmm: Exported, tmp_path: Path
) -> None:
    inside = tmp_path / "inside.onnx"
    inside.write_bytes(esmm.graph.read_bytes())
    write_halved(inside, "esmm")
    long = (copied.folder / TABLE).stat().st_size - PAGE
    write_halved(copied.folder / ROWS, "esmm")
    first = (copied.folder / SHORT).stat().st_ino
    write_halved(copied.folder / REQUEST, "esmm")
    remove_unread(copied.folder)
    assert (copied.folder / SHORT).stat().st_ino == first, "written again for the second graph"
    assert not (copied.folder / TABLE).exists()
    assert (copied.folder / SHORT).stat().st_size - PAGE == long // 2
    copied.proved(esmm, 1e-2)
    feed = esmm.test.padded(np.arange(50))
    one, other = (open_session(path, "cpu").run(None, feed) for path in (inside, copied.folder / ROWS))
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True)), "as with the tables inside"


@given(st.sampled_from(sorted(FORMATS)), st.lists(st.integers(1, 5), min_size=1, max_size=3), st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, kind: str, shape: list[int], seed: int
) -> None:
    path = tmp_path_factory.mktemp("table") / "a.safetensors"
    values = np.random.default_rng(seed).integers(-9, 9, shape).astype(FORMATS[kind])
    write_table(path, "a.b", kind, values.shape, [values[:1], values[1:]])
    [(name, found)] = load_file(path).items()
    assert name == "a.b" and found.dtype == values.dtype
    np.testing.assert_array_equal(found, values)
    assert path.stat().st_size == PAGE + values.nbytes


def points(graph: Path, place: str) -> None:
    """Let a graph read its table from another place."""
    model = onnx.load(str(graph), load_external_data=False)
    [table] = [w for w in model.graph.initializer if any(e.value == TABLE for e in w.external_data)]
    next(entry for entry in table.external_data if entry.key == "location").value = place
    graph.write_bytes(model.SerializeToString())


@pytest.mark.parametrize("place", ["../outside", "/outside", "sub/outside", "sub/../../outside", "link", "..", ""])
def test_a_graph_that_reads_outside_of_its_folder_is_refused(copied: Beside, place: str) -> None:
    folder = copied.folder
    (folder / "sub").mkdir()
    for target in (folder.parent / "outside", folder / "sub" / "outside"):
        shutil.copyfile(folder / TABLE, target)
    (folder / "link").symlink_to("../outside")
    place = f"{folder.parent}{place}" if place.startswith("/") else place
    points(folder / ROWS, place)
    with pytest.raises(BadInputError, match="which is no file of its own folder: export the ranker again") as error:
        open_session(folder / ROWS, "cpu", called="the graph")
    assert "\n" not in str(error.value) and str(error.value).startswith("the graph keeps")


def test_a_weight_of_any_node_may_not_lie_outside_either(copied: Beside) -> None:
    model = onnx.load(str(copied.folder / ROWS), load_external_data=False)
    value = TensorProto(name="hidden_place", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    value.external_data.add(key="location", value="../outside")
    model.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["hidden_place"], value=value))
    (copied.folder / ROWS).write_bytes(model.SerializeToString())
    with pytest.raises(BadInputError, match=r"keeps 'hidden_place' in '\.\./outside'"):
        open_session(copied.folder / ROWS, "cpu")


def test_a_table_that_is_missing_or_cut_is_one_sentence(copied: Beside) -> None:
    table = copied.folder / TABLE
    table.write_bytes(table.read_bytes()[:-4])
    with pytest.raises(BadInputError, match="is not a readable ONNX graph") as error:
        open_session(copied.folder / ROWS, "cpu")
    assert "\n" not in str(error.value)
    table.unlink()
    with pytest.raises(BadInputError, match=rf"in {TABLE}, which is missing: export the ranker again"):
        open_session(copied.folder / ROWS, "cpu")
