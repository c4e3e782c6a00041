"""Are components and rankers of installed packages found, keyed by their code, and refused in a sentence when wrong?"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from components.platform import sources
from components.platform.cache import key_parts
from components.platform.catalog import BUILTIN, catalog, component
from components.platform.errors import BadInputError, MissingError
from components.platform.settings import Settings
from components.platform.sources import modules_of
from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from components.rankers.registration import installed, offered, ours, registered
from components.testing.ranker import example_schema
from pipelines.language.shape import fit, schema_of
from pipelines.run.doctor import examine
from tests.installed import install

CONFIG = '''
from components.platform.artifacts import Artifact
from components.platform.contract import ComponentConfig, ComponentSpec, NoInputs, Ports
class Thing{title}(Artifact):
    """A thing."""
    kind = "{name}_thing"
class Config(ComponentConfig):
    """Nothing."""
class Outputs(Ports):
    """A thing."""
    thing: Thing{title}
COMPONENT = ComponentSpec(name="{name}", version="1", summary="Make a thing out of nothing.", config=Config,
    inputs=NoInputs, outputs=Outputs, entrypoint="{package}.parts.component:run")
'''
RANKER = """
from typing import Literal
from components.rankers.config import RankerConfig
class NetConfig(RankerConfig, name="{name}", builds="{builds}"):
    'A net.'
    depth: int = 4
    'Layers.'
    shape: Literal["wide", "tall"] = "wide"
    'Form of the layers.'
"""
PART = """
from components.rankers.config import {base}
class LastConfig({base}, name="{name}", builds="zz_last.module:Last"):
    'One event alone.'
    steps: int = 1
    'Events back.'
"""
LAST = """
from torch import nn
from components.rankers.parts import SequenceEncoder
class Last(SequenceEncoder):
    def __init__(self, width, length, config, targeted):
        super().__init__()
        self.out_features, self.steps = width, config.steps
    def forward(self, vectors, mask, target):
        return nn.functional.pad(vectors, (0, 0, 0, self.steps))[:, self.steps - 1]
"""
Installer = Callable[..., None]


def forget() -> None:
    for cached in (catalog, installed, offered, schema_of):
        cached.cache_clear()
    sources.forget()
    for name in [name for name in sys.modules if name.startswith("zz_")]:
        del sys.modules[name]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    forget()
    yield tmp_path
    forget()


def offer(site: Path, name: str, package: str, version: str = "1.0", config: str = CONFIG) -> None:
    """Install a component called `name` of a package of its own."""
    modules = {
        f"{package}/__init__.py": "",
        f"{package}/helper.py": "",
        f"{package}/parts/component.py": "",
        f"{package}/config.py": config.format(name=name, package=package, title=package.title().replace("_", "")),
    }
    install(
        site, package.replace("_", "-"), version, modules, rankmill__components={name: f"{package}.config:COMPONENT"}
    )
    forget()


def offer_ranker(site: Path, name: str = "deep_net", **changed: str) -> None:
    values: Mapping[str, str] = {
        "name": name, "builds": "zz_net.module:Net", **changed,
    }  # fmt: skip
    modules = {"zz_net/__init__.py": "", "zz_net/module.py": "", "zz_net/config.py": RANKER.format(**values)}
    install(site, "zz-net", "2.1", modules, rankmill__rankers={name: "zz_net.config:NetConfig"})
    forget()


def test_a_component_of_a_package_is_in_the_catalogue_with_its_origin(site: Path) -> None:
    offer(site, "make_thing", "zz_maker")
    spec = component("make_thing")
    assert (spec.package, spec.identity) == ("zz-maker 1.0", "make_thing@1 of zz-maker 1.0")
    assert [*catalog()] == [*BUILTIN, "make_thing"] and catalog().refused == {}
    assert "zz_maker" not in {name.partition(".")[0] for name in sys.modules if name.endswith("component")}
    assert component("ingest_table").package == ""


def parts_now() -> dict[str, str]:
    return key_parts(component("make_thing"), {}, {}, None)


def test_its_key_has_the_version_of_the_package_and_the_source_of_all_of_it(site: Path) -> None:
    offer(site, "make_thing", "zz_maker")
    assert modules_of(component("make_thing")) == ("zz_maker",)
    first = parts_now()
    forget()
    assert parts_now() == first
    offer(site, "make_thing", "zz_maker", version="1.1")
    second = parts_now()
    assert {name for name in first if first[name] != second[name]} == {"component"}
    (site / "zz_maker" / "helper.py").write_text("X = 1")
    forget()
    third = parts_now()
    assert {name for name in third if third[name] != second[name]} == {"source"}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("import zz_absent", r"fails to load \(ModuleNotFoundError: No module named 'zz_absent'\)"),
        ("def broken(:", r"fails to load \(SyntaxError"),
        ("COMPONENT = 3", "is no ComponentSpec"),
        ("", "fails to load .AttributeError"),
        (CONFIG.replace('name="{name}"', 'name="Make Thing"'), "has the name 'Make Thing', which is no"),
        (CONFIG.replace("{package}.parts.component:run", "component:run"), "has the entrypoint 'component:run'"),
        (CONFIG.replace("component:run", "component"), "which is no package.module:function"),
        (
            CONFIG.replace("{name}_thing", "ranker"),
            "has an artifact ThingZzBroken of kind 'ranker', which is",
        ),
    ],
)
def test_a_broken_package_is_a_sentence_and_takes_nothing_with_it(site: Path, config: str, said: str) -> None:
    offer(site, "make_thing", "zz_maker")
    offer(site, "make_other", "zz_broken", config=config)
    assert [*catalog()] == [*BUILTIN, "make_thing"]
    with pytest.raises(BadInputError, match=rf"component 'make_other' of package zz-broken 1.0 .*{said}"):
        component("make_other")
    with pytest.raises(MissingError, match=r"no component 'make_thin' \(did you mean 'make_thing'"):
        component("make_thin")


def test_the_doctor_names_what_is_installed_and_what_is_broken(site: Path) -> None:
    def found() -> tuple[bool, str]:
        check = next(check for check in examine(Settings.at(site / "home")) if check.name == "components and rankers")
        return check.passed, check.found

    offer(site, "make_thing", "zz_maker")
    offer_ranker(site)
    assert found() == (True, "of zz-maker 1.0, zz-net 2.1")
    offer(site, "make_other", "zz_broken", config="import zz_absent")
    passed, said = found()
    assert not passed and "package zz-broken 1.0" in said


def test_two_packages_with_one_name_are_both_named_and_neither_is_used(site: Path) -> None:
    offer(site, "make_thing", "zz_maker")
    offer(site, "make_thing", "zz_rival", version="3")
    assert [*catalog()] == [*BUILTIN]
    with pytest.raises(BadInputError, match=r"'make_thing' is offered by package zz-maker 1\.0 .*package zz-rival 3 "):
        component("make_thing")


def test_a_package_with_a_name_of_ours_is_an_error_where_the_name_is_used(site: Path) -> None:
    offer(site, "train_ranker", "zz_maker")
    with pytest.raises(
        BadInputError, match=r"'train_ranker' is offered by Rankmill itself and by package zz-maker 1\.0"
    ):
        component("train_ranker")
    assert catalog()["train_ranker"].package == "" and component("export_onnx").package == ""


@pytest.mark.parametrize("name", ["train_ranker", "make_thing"])
def test_a_broken_entry_that_is_called_like_what_works_leaves_that_alone(site: Path, name: str) -> None:
    offer(site, "make_thing", "zz_maker")
    works = component(name)
    offer(site, name, "zz_broken", config="import zz_absent")
    assert component(name).identity == works.identity
    assert [*catalog().refused] == [f"{name} of zz-broken 1.0"]


def offer_part(site: Path, name: str = "last", base: str = "SequenceConfig", group: str = "rankmill__parts") -> None:
    modules = {
        "zz_last/__init__.py": "",
        "zz_last/module.py": LAST,
        "zz_last/config.py": PART.format(name=name, base=base),
    }
    install(site, "zz-last", "0.3", modules, **{group: {name: "zz_last.config:LastConfig"}})
    forget()


def said(block: dict[str, Any]) -> list[tuple[object, str]]:
    """Return what `rankmill validate` would say of a `ranker:` block: where, and the sentence."""
    return [(finding.where[-1], finding.message) for finding in fit(RankerConfig, block)[1]]


def test_a_ranker_of_a_package_is_a_ranker_with_keys_of_its_own(site: Path) -> None:
    offer_ranker(site)
    config: Any = RankerConfig.of("deep_net", depth=7)
    assert [*registered("ranker")] == [*ours()["ranker"], "deep_net"] and config.builds == "zz_net.module:Net"
    assert (config.depth, config.shape) == (7, "wide")
    assert RankerConfig.model_validate_json(config.model_dump_json()) == config
    reason = "ranker 'deep_net' has no 'dropout': leave it out"
    assert said({"name": "deep_net", "dropout": 0.1}) == [("dropout", reason)]
    assert said({"name": "esmm", "depth": 3}) == [("depth", "ranker 'esmm' has no 'depth': leave it out")]
    assert said({"name": "deep_net", "depth": "3", "shape": "wid", "dept": 3}) == [
        ("dept", "unknown key 'dept' (did you mean 'depth'?)"),
        ("depth", "depth must be a whole number, not '3'"),
        ("shape", "shape must be 'wide' or 'tall' (did you mean 'wide'?), not 'wid'"),
    ]


def test_a_part_of_a_package_is_a_part_with_keys_of_its_own(site: Path) -> None:
    offer_part(site)
    config: Any = RankerConfig.of("esmm", sequence="last", steps=2)
    assert (config.steps, config.head, config.code.partition(" ")[0]) == (2, "esmm", "zz-last")
    assert RankerConfig.model_validate_json(config.model_dump_json()) == config
    reason = "'steps' is read by sequence 'last', and this ranker has sequence 'din': leave it out"
    assert said({"name": "din", "steps": 2}) == [("steps", reason)]
    assert said({"name": "din", "sequence": "lost"})[0][1].startswith("sequence must be 'mean', 'din', 'tin', 'transf")
    assert type(
        build_ranker(config, example_schema("like", "love")).get_submodule("histories.recent_items")
    ).__name__ == ("Last")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"name": "din"}, "part 'din' is offered by Rankmill itself and by package zz-last 0.3"),
        ({"base": "RankerConfig"}, "is a ranker, and belongs under the entry points 'rankmill.rankers'"),
        ({"group": "rankmill__rankers"}, "is a sequence, and belongs under the entry points 'rankmill.parts'"),
    ],
)
def test_a_part_that_cannot_be_used_is_a_sentence(site: Path, changed: dict[str, str], reason: str) -> None:
    offer_part(site, **changed)
    refused = {**offered(True).refused, **offered(False).refused}
    assert reason in refused[changed.get("name", "last")]
    assert RankerConfig.of("din").model_dump()["sequence"] == "din"
    if "group" not in changed and "name" not in changed:
        assert reason in said({"name": "dnn", "sequence": "last"})[0][1]


def test_its_code_is_in_what_the_config_is_keyed_by_and_that_of_ours_is_not(site: Path) -> None:
    offer_ranker(site)
    before = RankerConfig.of("deep_net").model_dump(mode="json")["code"]
    assert before.startswith("zz-net 2.1 ")
    (site / "zz_net" / "module.py").write_text("X = 1")
    forget()
    after = RankerConfig.of("deep_net", code=before).model_dump(mode="json")["code"]
    assert after.startswith("zz-net 2.1 ") and after != before
    assert "code" not in RankerConfig.of("esmm", code="mine").model_dump(mode="json")


@pytest.mark.parametrize(
    ("builds", "reason"),
    [("zz_net.module", "which is no package.module:Class"), ("zz_absent.module:Net", "which is not installed")],
)
def test_a_wrong_ranker_is_a_sentence_and_leaves_others_alone(site: Path, builds: str, reason: str) -> None:
    offer_ranker(site, builds=builds)
    with pytest.raises(ValidationError, match=f"ranker 'deep_net' of package zz-net 2.1 .*{reason}"):
        RankerConfig.of("deep_net")
    assert RankerConfig.of("esmm").name == "esmm" and [*registered("ranker")] == [*ours()["ranker"]]


def test_a_ranker_with_a_name_of_ours_is_an_error_where_the_name_is_used(site: Path) -> None:
    offer_ranker(site, name="esmm")
    with pytest.raises(ValidationError, match=r"'esmm' is offered by Rankmill itself and by package zz-net 2\.1"):
        RankerConfig.of("esmm")
    assert RankerConfig.of("mmoe").code == "" and [*offered(True).usable] == []
