"""Does the kit pass a sound component, and does each of its checks fail for one that breaks what it is about?"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ConfigDict

from components.ingest.ingest_table.config import COMPONENT as INGEST_TABLE
from components.platform.artifacts import Artifact
from components.platform.contract import ComponentConfig, ComponentSpec, Ports, RunContext
from components.platform.errors import BadInputError
from components.testing.component import WINDOW, ComponentKit, try_component
from pipelines.show.reference.describe import reads_and_makes, sample_yaml

README = """
```yaml
double:
  uses: double_words
  in: {words: other.words}
  with: {times: 3}
```
"""
TICKS = itertools.count()


class Words(Artifact):
    """A text file of words."""

    kind = "kit_words"


class Config(ComponentConfig):
    """How often, and what goes wrong."""

    times: int = 2
    """How often each word is repeated."""


class Undescribed(ComponentConfig):
    """A key without a sentence."""

    times: int = 2


class Changeable(Config):
    """A config that can be changed."""

    model_config = ConfigDict(frozen=False)


class Inputs(Ports):
    """The words."""

    words: Words


class Outputs(Ports):
    """The words, repeated."""

    words: Words


class Nothing(Ports):
    """No output."""


def double(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Repeat every word."""
    words = (context.local(inputs.words) / "words.txt").read_text().split()
    if not words:
        raise BadInputError("there is no word: write one")
    draft = context.draft("words")
    (draft / "words.txt").write_text(" ".join(word for word in words for _ in range(config.times)))
    return Outputs(words=Words(uri=str(draft)))


def clocked(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Write something else every time."""
    outputs = double(inputs, config, context)
    (Path(outputs.words.uri) / "time.txt").write_text(str(next(TICKS)))
    return outputs


def pickled(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Write a file that would be unpickled."""
    outputs = double(inputs, config, context)
    (Path(outputs.words.uri) / "words.pkl").write_text("")
    return outputs


def empty(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Write nothing."""
    return Outputs(words=Words(uri=str(context.draft("words"))))


def unannotated(inputs: Inputs, config: Config, context: RunContext) -> Any:
    """Return whatever."""


def renamed(given: Inputs, config: Config, context: RunContext) -> Outputs:
    """Call the inputs something else."""
    return double(given, config, context)


HERE = "tests.unit.components.platform.test_component_kit"
DOUBLE = ComponentSpec(
    name="double_words",
    version="1",
    summary="Repeat every word of a text as often as the config says.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    entrypoint=f"{HERE}:double",
)


def example_of_words(folders: Mapping[str, Path]) -> Mapping[str, Any]:
    (folders["words"] / "words.txt").write_text("a b")
    return {"times": 3}


@pytest.fixture
def readme(tmp_path_factory: pytest.TempPathFactory) -> Path:
    page = tmp_path_factory.mktemp("readme") / "README.md"
    page.write_text(README)
    return page


class TestDoubleWords(ComponentKit):
    component = DOUBLE

    @pytest.fixture(autouse=True)
    def _page(self, readme: Path) -> None:
        self.readme = readme  # type: ignore[misc]  # made for each test

    def example(self, folders: Mapping[str, Path]) -> Mapping[str, Any]:
        return example_of_words(folders)

    def test_it_doubles(self, tmp_path: Path) -> None:
        tried = self.run(tmp_path, times=2)
        assert (tried.outputs["words"] / "words.txt").read_text() == "a a b b"

    def test_an_error_of_the_component_is_raised(self, tmp_path: Path) -> None:
        def nothing(folders: Mapping[str, Path]) -> Mapping[str, Any]:
            (folders["words"] / "words.txt").write_text("")
            return {}

        with pytest.raises(BadInputError, match="there is no word"):
            try_component(DOUBLE, nothing, tmp_path)


class TestIngestTable(ComponentKit):
    """A component of ours under the whole kit."""

    component = INGEST_TABLE

    @pytest.fixture(autouse=True)
    def _table(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        self.file = tmp_path_factory.mktemp("tables") / "seen.csv"
        self.file.write_text("who,what,at,click\nu,i,2024-01-05,1\nv,i,2024-01-06,0\n")

    def example(self, folders: Mapping[str, Path]) -> Mapping[str, Any]:
        roles = {"user": "who", "item": "what", "timestamp": "at", "feedback": {"click": "click"}}
        return {"files": str(self.file), **roles}


BROKEN: list[tuple[str, dict[str, Any], str]] = [
    ("test_it_is_named_verb_noun_and_says_what_it_does", {"name": "double"}, "is no verb_noun"),
    ("test_it_is_named_verb_noun_and_says_what_it_does", {"summary": "doubles"}, "is not one sentence"),
    ("test_inputs_and_outputs_are_artifacts", {"outputs": Nothing}, "publishes nothing"),
    ("test_every_config_field_is_described_and_unknown_keys_are_errors", {"config": Undescribed}, r"below.*'times'"),
    ("test_every_config_field_is_described_and_unknown_keys_are_errors", {"config": Changeable}, "can be changed"),
    ("test_run_takes_inputs_config_context_and_returns_outputs", {"entrypoint": f"{HERE}:renamed"}, "must take inputs"),
    ("test_run_takes_inputs_config_context_and_returns_outputs", {"entrypoint": f"{HERE}:unannotated"}, "must return"),
    ("test_its_key_changes_with_its_source_and_config", {"unkeyed": ("tmes",)}, r"unkeyed names \['tmes'\]"),
    ("test_its_readme_shows_a_stage_that_is_valid", {"name": "double_lines"}, "no YAML example with `uses: double_lin"),
    ("test_importing_its_code_imports_no_engine", {"entrypoint": "tests.exports:check_graph"}, "imports .*'torch'"),
    ("test_a_run_publishes_what_it_declares", {"entrypoint": f"{HERE}:pickled"}, "words.pkl"),
    ("test_a_run_publishes_what_it_declares", {"entrypoint": f"{HERE}:empty"}, "'words' is empty"),
    ("test_two_runs_give_the_same_bytes", {"entrypoint": f"{HERE}:clocked"}, r"\['words'\] differ"),
]


@pytest.mark.parametrize(("check", "changed", "said"), BROKEN, ids=[f"{c[5:30]}-{w[:12]}" for c, _, w in BROKEN])
def test_a_component_that_breaks_a_rule_fails_its_check(
    check: str, changed: dict[str, Any], said: str, readme: Path, tmp_path: Path
) -> None:
    kit = TestDoubleWords()
    kit.readme = readme  # type: ignore[misc]  # made for each test
    arguments = [tmp_path] if "tmp_path" in getattr(kit, check).__code__.co_varnames else []
    getattr(kit, check)(*arguments)
    (tmp_path / "broken").mkdir()
    kit.component = replace(DOUBLE, **changed)  # type: ignore[misc]  # the broken one
    with pytest.raises(AssertionError, match=said):
        getattr(kit, check)(*(folder / "broken" for folder in arguments))


class Hidden(Config):
    """A config whose key does not come into JSON."""

    def model_dump(self, **how: Any) -> dict[str, Any]:
        return {name: value for name, value in super().model_dump(**how).items() if name != "times"}


class InputsOrMore(Inputs):
    """The words, and perhaps more."""

    more: Words | None = None


def double_all(inputs: InputsOrMore, config: Config, context: RunContext) -> Outputs:
    """Repeat every word, and say whether there was more."""
    context.note("more" if inputs.more else "no more")
    return double(inputs, config, context)


class OutputsOrNot(Outputs):
    """An output that need not be made."""

    more: Words | None = None


def test_an_input_may_be_left_out_and_an_output_may_not(tmp_path: Path) -> None:
    spec = replace(DOUBLE, inputs=InputsOrMore, entrypoint=f"{HERE}:double_all")
    assert (spec.needed_inputs, {*spec.input_types}) == (("words",), {"words", "more"})

    def with_more(folders: Mapping[str, Path]) -> Mapping[str, Any]:
        (folders["more"] / "words.txt").write_text("c")
        return example_of_words(folders)

    assert try_component(spec, example_of_words, tmp_path / "without").result.notes == ["no more"]
    assert try_component(spec, with_more, tmp_path / "with").result.notes == ["more"]
    assert reads_and_makes(spec) == ("kit_words, kit_words (if any)", "kit_words")
    assert "    # more: STAGE.kit_words\n" in sample_yaml(spec)
    kit = TestDoubleWords()
    kit.component = replace(spec, outputs=OutputsOrNot)  # type: ignore[misc]  # the broken one
    with pytest.raises(AssertionError, match="an output of OutputsOrNot may be left out"):
        kit.test_inputs_and_outputs_are_artifacts()


def test_a_config_key_that_the_cache_key_lacks_is_noticed(tmp_path: Path) -> None:
    kit = TestDoubleWords()
    kit.component = replace(DOUBLE, config=Hidden)  # type: ignore[misc]  # the broken one
    with pytest.raises(AssertionError, match=r"does not have: \['times'\]"):
        kit.test_every_key_of_its_config_is_in_the_cache_key(tmp_path)


def test_a_config_module_that_imports_an_engine_is_noticed() -> None:
    kit = TestDoubleWords()

    class Here(ComponentConfig):
        """A config of a module that imports torch."""

    Here.__module__ = "tests.exports"
    kit.component = replace(DOUBLE, config=Here)  # type: ignore[misc]  # the broken one
    with pytest.raises(AssertionError, match=r"tests.exports imports .*'torch'"):
        kit.test_reading_its_config_imports_no_engine()


def test_the_window_of_a_run_can_be_chosen(tmp_path: Path) -> None:
    tried = try_component(DOUBLE, example_of_words, tmp_path, {"times": 1}, WINDOW)
    manifest = json.loads((tried.outputs["words"] / "manifest.json").read_text())
    assert manifest["component"] == "double_words"
    assert tried.digests == try_component(DOUBLE, example_of_words, tmp_path / "b", {"times": 1}).digests
