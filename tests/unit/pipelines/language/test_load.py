"""Does reading a file give YAML 1.2 values, the place of each, and never anything but a problem?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from components.platform.errors import BadInputError, MissingError
from features.ground.yaml_text import Span
from pipelines.language.document import LARGEST_FILE, Document
from pipelines.language.load import parse, read
from pipelines.language.problems import Finding, PipelineError

HERE = Path("x.yaml")
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def value_of(text: str) -> Any:
    document = parse(text.encode(), HERE)
    assert document.problems() == []
    return document.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"), ("off", "off"), ("yes", "yes"), ("no", "no"), ("Yes", "Yes"), ("y", "y"),
        ("true", True), ("False", False), ("null", None), ("~", None), ("", None), ("NULL", None),
        ("12:30:00", "12:30:00"), ("1:30", "1:30"), ("2026-01-31", "2026-01-31"), ("1_000", "1_000"),
        ("010", 10), ("0o10", 8), ("0x1F", 31), ("-7", -7), ("+7", 7), ("0b1", "0b1"),
        ("1e3", 1000.0), ("1.5", 1.5), (".5", 0.5), ("4.", 4.0), ("-1e-3", -0.001), ("1.2.3", "1.2.3"),
        ("'1'", "1"), ('"true"', "true"), ("=", "="), ("2 * 3", "2 * 3"), ("${params.x}", "${params.x}"),
        ("|\n  a\n  b", "a\nb"), (">\n  a\n  b", "a b"),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    found = value_of(f"key: {text}")["key"]
    assert (found, type(found)) == (value, type(value))


def test_keys_are_texts_whatever_they_look_like() -> None:
    assert value_of("{on: 1, no: 2, 3: 4, true: 5, ~: 6, 1998-04-24: 7}") == {
        "on": 1, "no": 2, "3": 4, "true": 5, "~": 6, "1998-04-24": 7,
    }  # fmt: skip


@given(PLAIN)
def test_json_is_read_as_json_says(value: Any) -> None:
    text = json.dumps({"key": value})
    assert parse(text.encode(), HERE).value == json.loads(text) or "\\u" in text


@given(PLAIN)
def test_what_pyyaml_writes_is_read_back(value: Any) -> None:
    """PyYAML quotes whatever YAML 1.1 could misread, so both standards agree on its output."""
    text = yaml.safe_dump({"key": value}, allow_unicode=True)
    document = parse(text.encode(), HERE)
    # It writes a list that occurs twice as an anchor and aliases, which the language refuses.
    if "&id" not in text:
        assert document.value == yaml.safe_load(text)


@given(st.text() | st.text(alphabet="ab:-?[]{}&*!|>'\"%@`#, \n\t0~$.", max_size=60))
def test_any_text_is_a_value_or_problems_inside_the_file(text: str) -> None:
    document = parse(text.encode("utf-8", "surrogatepass"), HERE)
    for problem in document.problems():
        assert 1 <= problem.line <= len(document.lines)
        assert 1 <= problem.column <= len(document.lines[problem.line - 1]) + 1
        assert str(problem).startswith(f"x.yaml:{problem.line}:{problem.column}: ")


@given(st.binary(max_size=80))
def test_any_bytes_are_a_value_or_problems(data: bytes) -> None:
    parse(data, HERE)


def test_every_key_and_value_has_its_place() -> None:
    document = parse(b"a:\n  b: [1, two]\n  'c d': {e: x}\n", HERE)
    assert document.keys == {
        ("a",): Span(1, 1, 1),
        ("a", "b"): Span(2, 3, 1),
        ("a", "c d"): Span(3, 3, 5),
        ("a", "c d", "e"): Span(3, 11, 1),
    }
    assert document.span(("a", "b", 1)) == Span(2, 10, 3)
    assert document.span(("a", "c d", "e")) == Span(3, 14, 1)
    assert document.span(("a", "c d", "e"), key=True) == Span(3, 11, 1)
    assert document.span(("a", "b", 7, "nothing", "here")) == document.span(("a", "b"))


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_lines_are_counted_alike_with_every_line_end_and_byte_order_mark(newline: str) -> None:
    text = newline.join(["a: 1", "ключ: 每", "b: 2"])
    document = parse(text.encode("utf-8-sig"), HERE)
    assert document.value == {"a": 1, "ключ": "每", "b": 2}
    assert document.span(("b",)) == Span(3, 4, 1)
    assert document.span(("ключ",)) == Span(2, 7, 1)


@pytest.mark.parametrize(
    ("data", "place", "words"),
    [
        (b"", (1, 1), "empty"),
        (b"# only a comment\n", (1, 1), "empty"),
        (b"a: 1\nb: \xff\n", (2, 4), "UTF-8"),
        (b"a: 1\nb: \x07\n", (2, 4), "control character"),
        (b"a: 1\na: 2\n", (2, 1), "twice, first in line 1"),
        (b"a: {b: 1, b: 2}\n", (1, 11), "twice"),
        (b"a: !!python/object:os.system x\n", (1, 4), "remove the tag '!!python/object:os.system'"),
        (b"a: &x 1\nb: *x\n", (2, 4), "aliases"),
        (b"a: *nobody\n", (1, 4), "aliases"),
        (b"? [a]\n: 1\n", (1, 3), "plain word"),
        (b"a: .nan\n", (1, 4), "finite"),
        (b"a: 1e999\n", (1, 4), "finite"),
        (b"a: " + b"9" * 5000, (1, 4), "64 bits"),
        (b"[" * 5000, (1, 34), "nested"),
        (b"a: 1\n---\nb: 2\n", (2, 1), "second document"),
    ],
)
def test_what_the_language_leaves_out_is_refused_in_its_place(data: bytes, place: tuple[int, int], words: str) -> None:
    problems = parse(data, HERE).problems()
    assert [(problem.line, problem.column) for problem in problems] == [place]
    assert words in problems[0].message


def test_an_anchor_that_nothing_uses_harms_nothing() -> None:
    assert value_of("a: &unused 1\n") == {"a": 1}


def test_a_million_laughs_are_not_expanded() -> None:
    lines = ["a0: &a0 [ha, ha]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    document = parse("\n".join(lines).encode(), HERE)
    assert len(document.problems()) == 29 * 9


def test_a_file_that_is_too_large_missing_or_no_file_is_told(tmp_path: Path) -> None:
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * (LARGEST_FILE + 1))
    with pytest.raises(PipelineError, match="larger than 1 MiB"):
        read(large)
    with pytest.raises(MissingError, match="no pipeline file"):
        read(tmp_path / "absent.yaml")
    with pytest.raises(BadInputError, match="cannot be read"):
        read(tmp_path)


SHARED = """\
name: x
window: {days: 1}
stages:
  ingest:
    uses: ingest_table
    from: logs/shop.yaml
    with: {files: new.csv}
"""


def shared(folder: Path, log: str, pipeline: str = SHARED) -> Document:
    (folder / "logs").mkdir()
    (folder / "logs" / "shop.yaml").write_text(log)
    (folder / "x.yaml").write_text(pipeline)
    return read(folder / "x.yaml")


def test_a_stage_takes_keys_from_a_file_and_its_own_win(tmp_path: Path) -> None:
    document = shared(tmp_path, "files: old.csv\nuser: {column: who, type: int64}\n")
    assert document.problems() == []
    block = document.value["stages"]["ingest"]["with"]
    assert block == {"files": "new.csv", "user": {"column": "who", "type": "int64"}}


def test_a_stage_may_take_all_its_keys_from_a_file(tmp_path: Path) -> None:
    document = shared(tmp_path, "files: old.csv\n", SHARED.replace("    with: {files: new.csv}\n", ""))
    assert document.value["stages"]["ingest"]["with"] == {"files": "old.csv"}


def test_what_is_wrong_is_told_in_the_file_where_it_stands(tmp_path: Path) -> None:
    document = shared(tmp_path, "# a comment\nfiles: 3\nuser: {colum: who}\n")
    assert not document.broken
    block = ("stages", "ingest", "with")
    told = document.problems(
        [
            Finding((*block, "user", "colum"), "unknown", "key"),
            Finding((*block, "files"), "odd"),
            Finding(block, "none"),
        ]
    )
    assert [(Path(one.path).name, one.line, one.column) for one in told] == [
        ("shop.yaml", 3, 8), ("x.yaml", 7, 11), ("x.yaml", 7, 19),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("a: [1", "a bracket is not closed"),
        ("- a\n", "must hold keys"),
        ("", "must hold keys"),
        ("a: 1\na: 2", "twice"),
    ],
)
def test_a_broken_shared_file_is_told_and_nothing_else_about_its_stage(tmp_path: Path, log: str, words: str) -> None:
    document = shared(tmp_path, log)
    (problem,) = document.problems([Finding(("stages", "ingest", "with"), "key 'user' is missing")])
    assert (document.broken, Path(problem.path).name, words in problem.message) == (True, "shop.yaml", True)


@pytest.mark.parametrize(
    "given", ["../logs/shop.yaml", "/logs/shop.yaml", "logs/shop.yml", "logs/none.yaml", "a\x01.yaml"]
)
def test_a_shared_file_lies_beside_the_pipeline(tmp_path: Path, given: str) -> None:
    document = shared(tmp_path, "files: a.csv\n", SHARED.replace("logs/shop.yaml", json.dumps(given)))
    (problem,) = document.problems()
    assert (Path(problem.path).name, problem.line) == ("x.yaml", 6)
    assert "name another" in problem.message or "below its folder" in problem.message
