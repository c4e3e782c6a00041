"""Is a changed file noticed, and does nothing that runs code get in?"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from features.ground.errors import BadInputError
from registry.versions.seal import REQUIRED, SEAL, Seal, check_parity, check_seal


@pytest.fixture
def sealed(good_model: Path, tmp_path: Path) -> tuple[Path, str]:
    folder = Path(shutil.copytree(good_model, tmp_path / "version"))
    seal = Seal.of(folder)
    (folder / SEAL).write_text(seal.model_dump_json())
    return folder, seal.digest


def test_an_unharmed_folder_keeps_its_seal(sealed: tuple[Path, str]) -> None:
    folder, digest = sealed
    (folder / "MLmodel").write_text("what MLflow adds is not ours")
    check_seal(folder, digest, "m v1")


@pytest.mark.parametrize("name", REQUIRED)
def test_a_changed_or_missing_file_is_named(sealed: tuple[Path, str], name: str) -> None:
    folder, digest = sealed
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1])
    with pytest.raises(BadInputError, match=f"{name} of m v1 was changed"):
        check_seal(folder, digest, "m v1")
    (folder / name).unlink()
    with pytest.raises(BadInputError, match=f"{name} of m v1 is missing"):
        check_seal(folder, digest, "m v1")


def test_a_seal_that_was_made_again_does_not_help(sealed: tuple[Path, str]) -> None:
    folder, digest = sealed
    (folder / "parity.json").write_text((folder / "parity.json").read_text() + " ")
    (folder / SEAL).write_text(Seal.of(folder).model_dump_json())
    with pytest.raises(BadInputError, match=r"seal\.json of m v1 was changed"):
        check_seal(folder, digest, "m v1")
    (folder / SEAL).unlink()
    with pytest.raises(BadInputError, match=r"no readable seal\.json"):
        check_seal(folder, digest, "m v1")


@pytest.mark.parametrize("name", ["model.pkl", "weights.pt", "nested/code.py", "noext"])
def test_formats_that_can_run_code_are_not_registered(sealed: tuple[Path, str], name: str) -> None:
    folder, _ = sealed
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"x")
    with pytest.raises(BadInputError, match=f"{name} in .* may not be registered"):
        Seal.of(folder)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "has no parity.json"),
        ("{}", "cannot be read"),
        ('{"passed": true, "tolerance": 1e-5, "provider": "cpu", "cases": []}', "nothing was compared"),
        (
            '{"passed": false, "tolerance": 1e-5, "provider": "cpu", "cases": '
            '[{"batch": 7, "history": 1, "output": "love", "max_abs_difference": 0.25}]}',
            r"output 'love' is off by 2\.5e-01, tolerance 1\.0e-05",
        ),
    ],
)
def test_parity_must_have_been_compared_and_passed(tmp_path: Path, content: str | None, sentence: str) -> None:
    if content is not None:
        (tmp_path / "parity.json").write_text(content)
    with pytest.raises(BadInputError, match=sentence):
        check_parity(tmp_path, "m v1")


def test_a_file_that_was_added_is_named(sealed: tuple[Path, str]) -> None:
    """Curves that nobody registered would change every answer."""
    folder, digest = sealed
    (folder / "calibration.json").write_text("{}")
    with pytest.raises(BadInputError, match=r"calibration\.json of m v1 was added after registration"):
        check_seal(folder, digest, "m v1")
