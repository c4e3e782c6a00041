"""What does a pipeline file take from others? The pipeline it `extends`, its folder's `defaults.yaml`, files of stages.

Nearer files win. Blocks are merged key by key, lists and values replaced; `null` removes what it stands for, but inside
`with:`, where it is a value like any other and `without:` removes. A stage that names another component, and a block
inside `with:` that is of another kind, have keys of their own and replace the former one as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.platform.errors import BadInputError, MissingError, did_you_mean
from features.ground.yaml_text import KeyPath, Mistake, Span, Words, quoted
from pipelines.language.document import Document, bytes_of, document_of
from pipelines.language.shape import fit
from pipelines.language.spec import FolderSpec

DEFAULTS = "defaults.yaml"
"""What the pipelines of a folder take unless they say otherwise; no pipeline itself."""
KIND_KEYS = ("name", "kind", "by")
"""Keys of a block inside `with:` that say which keys the block has."""


def advice(line: str) -> str | None:
    """Return the likely cause of broken syntax in a line."""
    bare = "${" in line and "'" not in line and '"' not in line
    return "${params.NAME} must be in quotes inside { } and [ ]" if bare else None


WORDS = Words("pipeline", advice=advice)
_SHARED_WORDS = Words("block of config", advice=advice)
_FOLDER_WORDS = Words("block of defaults", advice=advice)


def take(document: Document) -> None:
    """Put into a pipeline what it takes from other files; what is wrong with them becomes its mistakes."""
    if not isinstance(document.value, dict):
        return
    parents = _parents(document)
    folder = _folder(document)
    document.parents = [*parents, *([folder] if folder else [])]
    if document.doubtful and document.doubtful[-1] == ():
        return
    merge = _Merge()
    layers = [*parents[::-1], document]
    if folder and not folder.mistakes:
        layers.insert(0, folder)
    for layer in layers:
        merge.lay(layer)
    document.value, document.homes = merge.value, merge.homes
    if folder and not folder.mistakes:
        _take_timezone(document, folder)
    for name, stage in merge.stages():
        _share(document, name, stage, merge)
    for removal in merge.removals:
        if not removal.done:
            message = f"stage {quoted(removal.stage)} takes no {quoted(removal.key)} from another file"
            message += did_you_mean(removal.key, removal.known) if removal.known else ": remove it"
            here: KeyPath = ("stages", removal.stage, "without", removal.index)
            removal.document.mistakes.append(Mistake(removal.document.span(here), message))


@dataclass
class _Removal:
    """One entry of `without:`."""

    document: Document
    stage: str
    index: int
    key: str
    done: bool = False
    known: set[str] = field(default_factory=set)
    """Keys that could have been meant."""

    def apply(self, block: dict[str, Any]) -> None:
        """Remove the key from what was taken so far."""
        *outer, last = self.key.split(".")
        for part in outer:
            inner = block.get(part)
            if not isinstance(inner, dict):
                self.known |= {*block}
                return
            block = inner
        self.known |= {".".join([*outer, key]) for key in block}
        if last in block:
            del block[last]
            self.done = True


class _Merge:
    """Layers of a pipeline laid over each other, with the place of every value."""

    def __init__(self) -> None:
        self.value: dict[str, Any] = {}
        self.homes: dict[KeyPath, tuple[Document, KeyPath]] = {}
        self.removals: list[_Removal] = []

    def lay(self, layer: Document) -> None:
        """Lay a file over what is there."""
        given = _copy(layer.value)
        if isinstance(given.get("extends"), str):
            del given["extends"]
        below, self.below = _copy(self.value), self.homes
        below.pop("name", None)  # every pipeline has a name of its own
        if layer.path.name == DEFAULTS:
            given.pop("schedule", None)
        self.layer, self.homes = layer, {(): (layer, ())}
        self._drop(below, given)
        self.value = self._blocks(below, given, ())

    def stages(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the stages that are blocks."""
        stages = self.value.get("stages")
        for name, stage in stages.items() if isinstance(stages, dict) else ():
            if isinstance(stage, dict):
                yield name, stage

    def _drop(self, below: dict[str, Any], given: dict[str, Any]) -> None:
        """Remove what `without:` names from what is below, and the keys themselves."""
        stages = given.get("stages")
        for name, stage in stages.items() if isinstance(stages, dict) else ():
            keys = stage.get("without") if isinstance(stage, dict) else None
            if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
                continue  # the shape says what is wrong with it
            del stage["without"]
            under = below.get("stages")
            former = under.get(name) if isinstance(under, dict) else None
            block = former.get("with") if isinstance(former, dict) else None
            for index, key in enumerate(keys):
                removal = _Removal(self.layer, name, index, key)
                if isinstance(block, dict):
                    removal.apply(block)
                self.removals.append(removal)

    def _blocks(self, below: dict[str, Any], given: dict[str, Any], where: KeyPath) -> dict[str, Any]:
        if self._another(below, given, where):
            return given
        merged: dict[str, Any] = {}
        for key, old in below.items():
            here = (*where, key)
            if key not in given:
                merged[key] = old
                self._keep(here)
            elif given[key] is not None or not _removable(here):
                merged[key] = self._values(old, given[key], here)
        for key, new in given.items():
            if key in below:
                continue
            if new is None and where == ("stages",) and isinstance(self.layer.value.get("extends"), str):
                message = f"no parent has a stage {quoted(key)} to remove{did_you_mean(key, below)}"
                self.layer.mistakes.append(Mistake(self.layer.span((*where, key), key=True), message))
            else:
                merged[key] = new
        return merged

    def _values(self, old: Any, new: Any, where: KeyPath) -> Any:
        if where == ("schedule",):
            return self._schedules(old, new)
        if isinstance(old, dict) and isinstance(new, dict):
            return self._blocks(old, new, where)
        return new

    def _schedules(self, old: Any, new: Any) -> Any:
        """A cron expression alone is the same as a block with it; it keeps the time zone."""
        if isinstance(old, str) and isinstance(new, dict):
            return self._blocks({"cron": old}, new, ("schedule",))
        if isinstance(old, dict) and isinstance(new, str) and "timezone" in old:
            self._keep(("schedule", "timezone"))
            return {"cron": new, "timezone": old["timezone"]}
        return self._blocks(old, new, ("schedule",)) if isinstance(old, dict) and isinstance(new, dict) else new

    def _another(self, below: dict[str, Any], given: dict[str, Any], where: KeyPath) -> bool:
        """Return whether a block has other keys than the one below it, which it then replaces."""
        if len(where) == 2 and where[0] == "stages":
            return "uses" in given and given["uses"] != below.get("uses", given["uses"])
        least = {"with": 3, "matrix": 4}.get(str(where[2])) if len(where) > 2 and where[0] == "stages" else None
        inside = least is not None and len(where) > least
        return inside and any(
            isinstance(below.get(key), str) and isinstance(given.get(key), str) and below[key] != given[key]
            for key in KIND_KEYS
        )

    def _keep(self, where: KeyPath) -> None:
        """Note that a value stays where it stood."""
        self.homes[where] = _home(self.below, where)
        self.homes |= {at: home for at, home in self.below.items() if at != where and at[: len(where)] == where}


def _removable(where: KeyPath) -> bool:
    """Return whether `null` removes what stands there; elsewhere it is a value."""
    inside = where[:1] == ("stages",) and where[2:3] == ("with",) and len(where) > 3
    return not inside and not (where[:1] == ("params",) and where[2:3] == ("default",))


def _home(homes: dict[KeyPath, tuple[Document, KeyPath]], where: KeyPath) -> tuple[Document, KeyPath]:
    for end in range(len(where), -1, -1):
        if where[:end] in homes:
            document, at = homes[where[:end]]
            return document, (*at, *where[end:])
    raise KeyError(where)


def _copy(value: Any) -> Any:
    return {key: _copy(inner) for key, inner in value.items()} if isinstance(value, dict) else value


def _parents(document: Document) -> list[Document]:
    """Return the files that a pipeline extends, the nearest first; a mistake leaves nothing else to be said."""
    found: list[Document] = []
    current, folder = document, document.path.parent
    while isinstance(current.value, dict) and isinstance(given := current.value.get("extends"), str):
        chain = [document.path, *(one.path for one in found)]
        other = None
        try:
            path = _beside(folder, given, "extends")
            if path.resolve() in [one.resolve() for one in chain]:
                names = " → ".join([*(_short(one, folder) for one in chain), given])
                raise BadInputError(f"pipelines extend each other in a circle ({names}): remove one extends")
            other = document_of(bytes_of(path, "file"), path, WORDS)
        except (BadInputError, MissingError) as error:
            current.mistakes.append(Mistake(current.span(("extends",)), str(error)))
        if other is not None and not isinstance(other.value, dict) and not other.mistakes:
            other.mistakes.append(Mistake(Span(1, 1), "the file must hold keys of a pipeline: write them"))
        if other is not None:
            found.append(other)
        if other is None or other.mistakes:
            document.doubtful.append(())
            break
        current = other
    return found


def _short(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _beside(folder: Path, given: str, key: str) -> Path:
    """Return a file that a pipeline names.

    Raises:
        BadInputError: it does not lie in the pipeline's folder or below it, or is no YAML file.
    """
    path = Path(given)
    if path.is_absolute() or ".." in path.parts or path.suffix != ".yaml":
        raise BadInputError(f"{key} must be a .yaml file beside the pipeline or below its folder, not {quoted(given)}")
    return folder / path


def _folder(document: Document) -> Document | None:
    """Return the defaults of a pipeline's folder; None where it has none."""
    path = document.path.parent / DEFAULTS
    if not path.is_file():
        return None
    found = document_of(bytes_of(path, "file"), path, _FOLDER_WORDS)
    if found.value is None and not found.mistakes:
        found.value = {}
    if not found.mistakes:
        for finding in fit(FolderSpec, found.value)[1]:
            place = found.span(finding.where, key=finding.at == "key")
            found.mistakes.append(Mistake(place, finding.message))
    return found


def _take_timezone(document: Document, folder: Document) -> None:
    """Give a cron expression the time zone of the folder."""
    own, theirs = document.value.get("schedule"), folder.value.get("schedule")
    if not isinstance(theirs, dict) or "timezone" not in theirs:
        return
    where: KeyPath = ("schedule", "timezone")
    if isinstance(own, str):
        own = document.value["schedule"] = {"cron": own}
    if isinstance(own, dict) and "cron" in own and "timezone" not in own:
        own["timezone"] = theirs["timezone"]
        document.homes[where] = (folder, where)


def _share(document: Document, name: str, stage: dict[str, Any], merge: _Merge) -> None:
    """Put the keys of the file that a stage names into its `with:`, below those that stand there."""
    given = stage.get("from")
    if not isinstance(given, str):
        return
    where: KeyPath = ("stages", name, "with")
    try:
        path = _beside(document.path.parent, given, "from")
        data = bytes_of(path, "file")
    except (BadInputError, MissingError) as error:
        home, at = document.home(("stages", name, "from"))
        home.mistakes.append(Mistake(home.span(at), str(error)))
        document.doubtful.append(where)
        return
    other = document.shared[name] = document_of(data, path, _SHARED_WORDS)
    if not isinstance(other.value, dict) and not other.mistakes:
        other.mistakes.append(Mistake(Span(1, 1), "the file must hold keys of a stage's with: write them"))
    if other.mistakes:
        document.doubtful.append(where)
    own = stage.setdefault("with", {})
    if not isinstance(own, dict) or not isinstance(other.value, dict):
        return
    taken = {key: _copy(value) for key, value in other.value.items() if key not in own}
    for removal in merge.removals:
        if removal.stage == name:
            removal.apply(taken)
    stage["with"] = taken | own
    document.homes |= {(*where, key): (other, (key,)) for key in taken}
