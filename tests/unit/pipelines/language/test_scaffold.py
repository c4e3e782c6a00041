"""Does what `rankmill new` writes work as it stands, under any free name, and does it leave what exists alone?"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from components.platform.errors import BadInputError
from pipelines.cli.main import app
from pipelines.language.serving import load_serving
from pipelines.scaffold.write import KINDS, NEXT, Kind, rendered, write_example
from registry.serving.wire.config import LogOptions, ServingConfig

ROOT = Path(__file__).resolve().parents[4]


def pytest_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the tests of a folder as its owner would, with this tree installed."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_new_component_passes_its_test_and_a_wrong_one_does_not(tmp_path: Path) -> None:
    write_example("component", "tally_rows", tmp_path)
    done = pytest_in(tmp_path / "tally_rows")
    assert done.returncode == 0, done.stdout
    code = tmp_path / "tally_rows" / "tally_rows" / "component.py"
    code.write_text(code.read_text().replace("str(rows)", "str(__import__('time').time_ns())"))
    done = pytest_in(tmp_path / "tally_rows", "-k", "counts or same_bytes")
    assert done.returncode == 1 and "2 failed" in done.stdout, done.stdout


def test_a_new_ranker_passes_its_test(tmp_path: Path) -> None:
    write_example("ranker", "tower_net", tmp_path)
    done = pytest_in(tmp_path / "tower_net")
    assert done.returncode == 0, done.stdout


def test_a_new_pipeline_and_a_new_feature_view_pass_their_tests_in_one_folder(tmp_path: Path) -> None:
    write_example("pipeline", "corner_shop", tmp_path)
    write_example("feature-view", "clicks_so_far", tmp_path)
    done = pytest_in(tmp_path)
    assert done.returncode == 0 and "5 passed" in done.stdout, done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_brings_a_test_and_says_how_to_go_on(kind: Kind) -> None:
    files = rendered(kind, "count_rows", "shop_ranker")
    tested = kind != "serving"  # which is a file that is checked when it is written
    assert any(path.name == "test_count_rows.py" for path in files) == tested
    assert any("pytest" in command for command in NEXT[kind]) == tested
    assert NEXT[kind]
    assert not [path for path, text in files.items() if "NAME" in path.as_posix() or "<<" in text or ">>" in text]


@settings(deadline=None, max_examples=25)
@given(name=st.from_regex(r"[a-z]+(_[a-z]+){1,2}", fullmatch=True).filter(lambda name: len(name) < 50))
def test_whatever_the_name_the_python_is_python(name: str) -> None:
    for kind in KINDS:
        for path, text in rendered(kind, name).items():
            if path.suffix == ".py":
                compile(text, str(path), "exec")
                assert max(map(len, text.splitlines()), default=0) <= 120 + 6 * len(name)


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("pipeline", "3_shops", "is no name"),
        ("pipeline", "../shop", "is no name"),
        ("pipeline", "import", "is no name"),
        ("pipeline", "x" * 61, "is no name"),
        ("pipeline", "movielens_daily", "is a pipeline of that name"),
        ("pipeline", "household", "features/definitions/ has 'household'"),
        ("feature-view", "movielens_profile", "features/definitions/ has 'movielens_profile'"),
        ("component", "tally", "by a verb and a noun"),
        ("component", "train_ranker", "there is a component of that name"),
        ("component", "typing_extensions", "there is a Python module of that name"),
        ("ranker", "esmm", "there is a ranker of that name"),
        ("ranker", "torch", "there is a Python module of that name"),
        ("serving", "movielens", "is a service of that name"),
        ("serving", "corner_shop", "a service answers with a model: name a registered one"),
    ],
)
def test_a_name_that_cannot_be_had_is_a_sentence_and_writes_nothing(
    kind: Kind, name: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInputError, match=said):
        write_example(kind, name, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_an_existing_file_is_never_changed_and_nothing_is_written_beside_it(tmp_path: Path) -> None:
    mine = tmp_path / "tally_rows" / "pyproject.toml"
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(BadInputError, match=r"pyproject.toml exists already"):
        write_example("component", "tally_rows", tmp_path)
    assert mine.read_text() == "mine" and [*mine.parent.iterdir()] == [mine]


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInputError, match="with --into"):
        write_example("component", "tally_rows", tmp_path / "file")


def test_the_command_writes_and_says_what_and_where(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["new", "component", "tally_rows", "--into", str(tmp_path / "deep")])
    assert done.exit_code == 0
    assert f"wrote {tmp_path / 'deep' / 'tally_rows' / 'pyproject.toml'}" in done.stdout
    assert "rankmill components tally_rows" in done.stdout
    assert CliRunner().invoke(app, ["new", "compnent", "tally_rows"]).exit_code == 2


def test_a_new_service_is_right_and_says_what_its_keys_are(tmp_path: Path) -> None:
    words = ["new", "serving", "corner_shop", "--model", "shop_ranker", "--into", str(tmp_path)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "service corner_shop: no problems" in done.stdout and "rankmill serve corner_shop.yaml" in done.stdout
    config = load_serving(tmp_path / "corner_shop.yaml")
    assert (config.name, config.model) == ("corner_shop", "shop_ranker")
    plain = ServingConfig(name="corner_shop", model="shop_ranker", log=LogOptions())
    assert config == plain, "what it writes out is what holds without it"


@pytest.mark.parametrize("model", ["../shop", "shop ranker", "a: b", "x" * 129, "shop\n"])
def test_a_model_that_cannot_be_served_is_a_sentence(model: str, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no name of a model"):
        write_example("serving", "corner_shop", tmp_path / "new", model)
    assert not (tmp_path / "new").exists()


def test_only_a_service_has_a_model(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="a component has no --model"):
        write_example("component", "tally_rows", tmp_path / "new", "shop_ranker")


def test_the_tutorial_shows_what_is_written() -> None:
    page = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    for path, text in rendered("pipeline", "hotel_search").items():
        kind = {".py": "python", ".yaml": "yaml"}[path.suffix]
        shown = f"```{kind}\n# {path.as_posix()}\n{text}```"
        assert shown in page or path.name.startswith("test_"), f"docs/tutorial.md shows another {path}"


def test_the_page_about_components_shows_what_is_written() -> None:
    page = (ROOT / "docs" / "write-a-component.md").read_text(encoding="utf-8")
    files = rendered("component", "count_rows")
    for path in ("count_rows/config.py", "count_rows/component.py", "tests/test_count_rows.py"):
        shown = f"```python\n# {path}\n{files[Path('count_rows') / path]}```"
        assert shown in page, f"docs/write-a-component.md shows another {path}"
