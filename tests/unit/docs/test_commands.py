"""Is every command in the documentation one that exists, with the options and arguments that it is shown with?

Commands are parsed, not run: `tests/e2e` runs those of the tutorial and of a night.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import typer

from pipelines.cli.main import app
from pipelines.show.reference.components_page import PAGE, page

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "components").rglob("README.md")])
CONSOLE = re.compile(r"^```(?:console|sh|bash)\n(.*?)^```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`((?:rankmill|make|feast|python -m) [^`\n]+)`")
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
BUILTINS = {"cd", "export", "source"}


def commands(text: str) -> list[str]:
    """Return the commands of a page: what stands after `$ ` in a console, and in line as code."""
    shown = [line[2:] for block in CONSOLE.findall(text) for line in block.splitlines() if line.startswith("$ ")]
    return [*shown, *INLINE.findall(re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))]


def parts(command: str) -> list[list[str]]:
    """Return the words of each program that a line starts; variables before it and what is redirected left out."""
    found: list[list[str]] = [[]]
    words = iter(shlex.split(command, comments=True))
    for word in words:
        if word in ("&&", "|", ";"):
            found.append([])
        elif word in (">", ">>", "<"):
            next(words)
        elif found[-1] or not re.fullmatch(r"[A-Z_]+=.*", word):
            found[-1].append(word)
    return [program for program in found if program]


def fault(words: list[str], text: str) -> str | None:
    """Return why a program would not start, or None."""
    name, arguments = words[0], words[1:]
    if name == "rankmill":
        return rankmill_fault(arguments)
    if name == "make":
        unknown = [word for word in arguments if "=" not in word and word not in TARGETS]
        return f"no target {unknown}" if unknown else None
    if name in ("python", "python3", "python3.11"):
        if arguments[0] == "-m":
            return None if importlib.util.find_spec(arguments[1]) else f"no module {arguments[1]}"
        return None if f"# {arguments[0]}\n" in text or (ROOT / arguments[0]).exists() else f"no file {arguments[0]}"
    if name == ".":
        return None if arguments == [".venv/bin/activate"] else f"no file {arguments}"
    if name in BUILTINS or shutil.which(name) or (ROOT / ".venv" / "bin" / name).exists():
        return None
    return f"no program {name}"


def rankmill_fault(arguments: list[str]) -> str | None:
    """Return what the command line would refuse, or None; nothing is run."""
    command: Any = typer.main.get_command(app)
    rest, parent = list(arguments), None
    try:
        while hasattr(command, "resolve_command"):
            if not rest:
                return None
            parent = command.make_context(command.name, rest, parent=parent)
            _, command, rest = command.resolve_command(parent, [*parent._protected_args, *parent.args])
        if rest:  # a command that is only named needs none of its arguments
            command.make_context(command.name, list(rest), parent=parent)
    except Exception as error:
        if type(error).__name__ == "Exit":  # `--help` was asked for
            return None
        return f"{type(error).__name__}: {getattr(error, 'message', error)}"
    return None


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_command_of_a_page_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    wrong = {
        command: reason for command in commands(text) for words in parts(command) if (reason := fault(words, text))
    }
    assert wrong == {}


def test_commands_are_found_at_all() -> None:
    found = [command for path in PAGES for command in commands(path.read_text(encoding="utf-8"))]
    assert len(found) > 50
    assert {"make run", "rankmill doctor", ". .venv/bin/activate"} <= {re.sub(r"\s+#.*", "", one) for one in found}


@pytest.mark.parametrize(
    "command",
    [
        "rankmill rn movielens_daily",
        "rankmill run movielens_daily --epochs 3",
        "rankmill score model rows.parquet",
        "rankmill component rn NAME spec.json",
        "make everything",
        "python -m components.no_such_module",
        "python no_such_file.py",
        "X=1 nosuchprogram --help",
        "ls && rankmill nothing",
        "rankmill --proffile prod models",
    ],
)
def test_a_wrong_command_is_noticed(command: str) -> None:
    assert [reason for words in parts(command) if (reason := fault(words, ""))]


@pytest.mark.parametrize(
    "command",
    [
        "rankmill plan x --json | head -3",
        "A=1 rankmill run x -p a=1 > log",
        "rankmill --help",
        "rankmill component run N s.json",
    ],
)
def test_a_right_command_is_let_through(command: str) -> None:
    assert [reason for words in parts(command) if (reason := fault(words, ""))] == []


def test_links_between_pages_lead_somewhere() -> None:
    broken = []
    for path in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
            file = target.partition("#")[0]
            if "://" not in target and file and not (path.parent / file).exists():
                broken.append(f"{path.relative_to(ROOT)}: {target}")
    assert broken == []


def test_the_reference_is_what_the_configs_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `rankmill reference --write`"
