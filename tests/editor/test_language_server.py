"""What does an engineer see in the editor? Squiggles, completion and hover of a real YAML language server.

`make test-editor` installs the server from `package-lock.json` and runs this; `make test` checks the same files with a
JSON Schema validator (`tests/unit/pipelines/language/test_schema.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from components.platform.catalog import catalog
from components.rankers.registration import registered
from pipelines.show.reference.schema import SCHEMA_FILE
from tests.editor.language_server import LanguageServer
from tests.golden_files import marked_places

pytestmark = pytest.mark.editor

ROOT = Path(__file__).resolve().parents[2]
PIPELINES = ROOT / "pipelines"
SHIPPED = sorted([*PIPELINES.glob("*.yaml"), *PIPELINES.glob("profiles/*.yaml"), *PIPELINES.glob("shared/*.yaml")])
GOLDEN = ROOT / "tests" / "golden"
MODELINE = f"# yaml-language-server: $schema={SCHEMA_FILE.as_uri()}\n"
PROFILE = f"# yaml-language-server: $schema={SCHEMA_FILE.with_name('profile.schema.json').as_uri()}\n"
SEEN = (
    "a_list", "bad_duration", "bad_name", "block_of_no_kind", "block_of_unknown_kind", "duplicate_key",
    "duplicate_stage", "indentation", "malformed_wire", "missing_config_key", "missing_input", "missing_inputs_block",
    "missing_uses", "missing_window", "out_of_bounds", "partial_reference", "ranker_hashed_gnolr",
    "ranker_ignored_buckets", "ranker_ignored_clusters", "ranker_ignored_experts", "ranker_ignored_heads",
    "ranker_ignored_layers", "ranker_key_of_another", "tab", "unknown_component",
    "unknown_config_key", "unknown_input", "unknown_key", "unknown_nested_key", "unknown_ranker", "unknown_stage_key",
    "unquoted_reference", "wrong_block", "wrong_type", "yaml_1_1_switch",
)  # fmt: skip
"""Wrong pipelines that an editor can tell without knowing data, names or graphs."""
PROFILES_SEEN = ("unknown_key", "unknown_nested_key", "wrong_block", "wrong_choice")
STAGE = """\
name: x
window: {days: 1}
stages:
  train:
    uses: train_ranker
    in: {dataset: dataset.training_set}
    with:
"""


@pytest.fixture(scope="module")
def editor() -> Iterator[LanguageServer]:
    with LanguageServer(ROOT) as server:
        yield server


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_file_has_no_squiggle(path: Path, editor: LanguageServer) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=")
    assert editor.diagnostics(path, text) == []


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_and_a_wrong_key_in_it_has_one_so_its_first_line_names_the_schema(path: Path, editor: LanguageServer) -> None:
    text = path.read_text(encoding="utf-8") + "descripton: none\n"
    (found,) = editor.diagnostics(path, text)
    assert (found.line, "descripton" in found.message) == (text.count("\n"), True)


@pytest.mark.parametrize(
    ("path", "modeline"),
    [(GOLDEN / "errors" / f"{name}.yaml", MODELINE) for name in SEEN]
    + [(GOLDEN / "profiles" / f"{name}.yaml", PROFILE) for name in PROFILES_SEEN],
    ids=[*SEEN, *(f"profile-{name}" for name in PROFILES_SEEN)],
)
def test_a_wrong_file_has_a_squiggle_on_the_line_that_validate_names(
    path: Path, modeline: str, editor: LanguageServer
) -> None:
    found = editor.diagnostics(path, modeline + path.read_text(encoding="utf-8"))
    assert {line + 1 for line, _ in marked_places(path)} <= {one.line for one in found}, found


def test_with_offers_the_keys_of_the_component_that_uses_names(editor: LanguageServer) -> None:
    text = MODELINE + STAGE + "      ranker: {name: esmm}\n      "
    keys = {*catalog()["train_ranker"].config.model_fields} - {"ranker"}
    found = editor.completions(PIPELINES / "x.yaml", text, text.count("\n") + 1, 7)
    assert {*found} == keys
    assert found["epochs"] == "Most passes over the training rows."
    other = text.replace("uses: train_ranker", "uses: validate_data")
    assert "epochs" not in editor.completions(PIPELINES / "x.yaml", other, other.count("\n") + 1, 7)


def test_uses_offers_every_component_and_a_name_of_a_ranker_every_ranker(editor: LanguageServer) -> None:
    uses = MODELINE + "name: x\nstages:\n  train:\n    uses: \n"
    found = editor.completions(PIPELINES / "x.yaml", uses, 5, 11)
    assert {name: spec.summary for name, spec in catalog().items()} == found
    ranker = MODELINE + STAGE + "      ranker:\n        name: \n"
    assert {*editor.completions(PIPELINES / "x.yaml", ranker, 10, 15)} >= {*registered("ranker")}


@pytest.mark.parametrize(
    ("block", "offered", "not_offered"),
    [
        ("name: gnolr", {"gamma", "hidden"}, {"layers", "sequence", "cvr_space"}),
        ("name: esmm", {"sequence", "hidden"}, {"layers", "buckets", "gamma"}),
        ("name: esmm\n        sequence: transformer", {"layers", "heads"}, {"buckets", "gamma"}),
    ],
)
def test_a_ranker_offers_the_keys_that_it_and_its_parts_read(
    block: str, offered: set[str], not_offered: set[str], editor: LanguageServer
) -> None:
    text = MODELINE + STAGE + f"      ranker:\n        {block}\n        "
    found = {*editor.completions(PIPELINES / "x.yaml", text, text.count("\n") + 1, 9)}
    assert offered <= found and not not_offered & found


@pytest.mark.parametrize("value", ["3", '"${params.epochs}"'])
@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("epochs", "Most passes over the training rows."),
        ("workers", "Ray Train workers"),
        ("learning_rate", "Step size of Adam"),
    ],
)
def test_hover_shows_what_a_key_means_whatever_its_value(
    key: str, says: str, value: str, editor: LanguageServer
) -> None:
    text = MODELINE + STAGE + f"      ranker: {{name: esmm}}\n      {key}: {value}\n"
    assert says in editor.hover(PIPELINES / "x.yaml", text, 10, 8)


def test_the_lock_names_one_version_of_the_server_and_no_place_to_fetch_it_from() -> None:
    lock = (Path(__file__).parent / "package-lock.json").read_text(encoding="utf-8")
    assert '"resolved"' not in lock and lock.count('"integrity"') >= 20
