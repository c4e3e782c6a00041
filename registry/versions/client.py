"""How do we talk to MLflow's registry? Every call to it is here."""

from __future__ import annotations

import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from features.declaration import Frozen
from features.ground.errors import BadInputError, MissingError, RetryableError
from features.ground.remote_files import local_path
from registry.serving.model.contract import RegisteredVersion
from registry.versions.database import asking, default_store, initialise, locked, reason_of, require
from registry.versions.packing import pack
from registry.versions.seal import Seal, check_seal
from registry.versions.tracking import experiment, lifecycle_stage
from registry.versions.version_files import location, without_secrets

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
CHALLENGER = "challenger"
_DIGEST, _SEAL, _RANKER, _REPORT = (
    "rankmill.digest",
    "rankmill.seal",
    "rankmill.ranker_digest",
    "rankmill.report_digest",
)
_LONGEST = 5000
"""Characters of a description in MLflow's schema."""
_ALIAS = re.compile(r"[a-z]+(_[a-z]+)*")


class ListedVersion(Frozen):
    """A version as a list shows it."""

    version: RegisteredVersion
    """Number and content; its digests are empty when somebody else registered it."""
    aliases: tuple[str, ...]
    """Names that point at it, sorted."""
    tags: dict[str, str] = Field(default_factory=dict)
    """Everything noted about it."""
    run_id: str = ""
    """MLflow run it came from, empty when unknown."""


@dataclass(frozen=True)
class RegistryState:
    """Where the aliases of a model point, and what is noted about its versions."""

    aliases: Mapping[str, int]
    """Version by alias; one that was deleted may still be named."""
    tags: Mapping[int, Mapping[str, str]]
    """By version everything noted about it."""

    def behind(self, model: str, alias: str) -> tuple[int, str]:
        """Return the version behind an alias and the digest of its files.

        Raises:
            MissingError: there is no such alias, or its version was deleted.
            BadInputError: somebody else registered the version.
        """
        if alias not in self.aliases:
            known = ", ".join(sorted(self.aliases)) or "none yet"
            raise MissingError(f"model {model!r} has no alias {alias!r} (aliases: {known}): promote a version")
        number = self.aliases[alias]
        if number not in self.tags:
            raise MissingError(f"alias {alias!r} of {model!r} points at v{number}, which was deleted: move it")
        digest = self.tags[number].get(_DIGEST)
        if not digest:
            raise BadInputError(f"{model} v{number} was not registered by Rankmill: register it with register_model")
        return number, digest


def check_alias(alias: str) -> str:
    """Return `alias` if it is one of ours: lower-case words; MLflow would take ``1`` and mixed case too.

    Raises:
        BadInputError: it is not.
    """
    if not _ALIAS.fullmatch(alias) or alias == "latest":
        raise BadInputError(f"alias {alias!r} is not allowed: use lower-case words joined by _, such as champion")
    return alias


@dataclass(frozen=True)
class Registry:
    """The registered models behind one tracking URI."""

    tracking_uri: str
    artifact_root: str | None = None
    """URI of the folder for files when MLflow is embedded."""

    def register(
        self,
        directory: Path,
        model: str,
        *,
        digest: str,
        ranker_digest: str,
        report_digest: str,
        tags: dict[str, str] | None = None,
        description: str = "",
        run_id: str | None = None,
    ) -> RegisteredVersion:
        """Register a folder as one version, or return the version that already has this content.

        The folder is kept byte for byte, with MLflow's own description beside it, so that both
        `ServedModel.open` and `mlflow.onnx.load_model` can open what `download` returns.

        Args:
            directory: model.onnx, contract.json, encoder.json, schema.json, parity.json and reports; beside it must be
                room for what is uploaded.
            model: name of the registered model.
            digest: digest of the `OnnxModel` artifact: what makes two versions the same.
            ranker_digest: digest of the `Ranker` artifact.
            report_digest: digest of the `EvaluationReport` artifact.
            tags: more facts about the version.
            description: Markdown for MLflow's page.
            run_id: MLflow run that trained it; left out when this tracking server does not know it.

        Raises:
            BadInputError: a file is missing or of a format that could run code.
            RetryableError: MLflow cannot be written; no version was made.
        """
        seal = Seal.of(directory)
        initialise(self.tracking_uri, self.artifact_root)
        facts = {_DIGEST: digest, _RANKER: ranker_digest, _REPORT: report_digest, _SEAL: seal.digest, **(tags or {})}
        with locked(self.tracking_uri), asking(self.tracking_uri) as client:
            same = [found for found in _search(client, model) if found.tags.get(_DIGEST) == digest]
            if same:
                return _registered(min(same, key=lambda found: int(found.version)))
            if model not in _models(client):
                _create_model(client, model)
            model_id = self._log(client, directory, model, seal, facts, run_id)
            with default_store(self.tracking_uri):
                created = client.create_model_version(
                    model,
                    f"models:/{model_id}",
                    run_id=_known_run(client, run_id),
                    tags=facts,
                    description=_shortened(description),
                    model_id=model_id,
                )
            return _registered(created)

    def _log(
        self, client: MlflowClient, directory: Path, model: str, seal: Seal, facts: dict[str, str], run_id: str | None
    ) -> str:
        """Upload the folder as a logged model and return its id; a failed upload is marked as such."""
        known = _known_run(client, run_id)
        home = client.get_run(known).info.experiment_id if known else None
        home = home or experiment(self.tracking_uri, model, self.artifact_root)
        logged = client.create_logged_model(home, name=model, source_run_id=known, tags=facts, model_type="ranker")
        try:
            with tempfile.TemporaryDirectory(dir=directory.parent) as folder:  # one disk: large files are linked
                packed = pack(directory, Path(folder) / "packed", seal, logged.model_id, known)
                client.log_model_artifacts(logged.model_id, str(packed))
        except BaseException:
            client.finalize_logged_model(logged.model_id, "FAILED")
            raise
        client.finalize_logged_model(logged.model_id, "READY")
        if known:
            from mlflow.entities import LoggedModelOutput

            client.log_outputs(known, [LoggedModelOutput(logged.model_id, step=0)])
        return str(logged.model_id)

    def models(self) -> tuple[str, ...]:
        """Return the names of all registered models, sorted.

        Raises:
            MissingError: there is no database yet.
        """
        with self._reading() as client:
            return tuple(_models(client))

    def versions(self, model: str) -> tuple[ListedVersion, ...]:
        """Return every version of `model`, oldest first, with its aliases.

        Raises:
            MissingError: there is no such model.
        """
        with self._reading() as client:
            aliases = _aliases(client, model)
            return tuple(
                ListedVersion(
                    version=_registered(found),
                    aliases=tuple(sorted(alias for alias, number in aliases.items() if number == int(found.version))),
                    tags=dict(found.tags),
                    run_id=found.run_id or "",
                )
                for found in sorted(_search(client, model), key=lambda found: int(found.version))
            )

    def version(self, model: str, which: str | int) -> RegisteredVersion:
        """Return a version by number or alias.

        Raises:
            MissingError: there is no such model, version or alias; the message names those that exist.
            BadInputError: the alias is not a lower-case word.
        """
        with self._reading() as client:
            return _registered(_find(client, model, which))

    def alias(self, model: str, alias: str) -> RegisteredVersion | None:
        """Return the version behind an alias, or None when the model, the alias or its version does not exist.

        Older MLflow servers keep the alias of a version that was deleted: see `dangling`.
        """
        check_alias(alias)
        with self._reading() as client:
            number = _aliases(client, model).get(alias) if model in _models(client) else None
            found = {int(found.version): found for found in _search(client, model)} if number is not None else {}
            return _registered(found[number]) if number in found else None

    def state(self, model: str) -> RegistryState:
        """Return where a model's aliases point, in two questions to MLflow: what a service asks again and again.

        Raises:
            MissingError: there is no such model.
        """
        from mlflow.exceptions import MlflowException

        with self._reading() as client:
            try:
                aliases = client.get_registered_model(model).aliases
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                raise MissingError(f"no registered model {model!r}: register one by running its pipeline") from None
            versions = {int(found.version): dict(found.tags) for found in _search(client, model)}
        return RegistryState({alias: int(number) for alias, number in aliases.items()}, versions)

    def dangling(self, model: str) -> dict[str, int]:
        """Return the aliases whose version was deleted, with its number, sorted.

        Raises:
            MissingError: there is no such model.
        """
        with self._reading() as client:
            return _dangling(client, model)

    def remove_dangling(self, model: str) -> dict[str, int]:
        """Remove the aliases whose version was deleted and return them.

        Raises:
            MissingError: there is no such model.
        """
        with self._reading() as client:
            found = _dangling(client, model)
            for alias in found:
                client.delete_registered_model_alias(model, alias)
            return found

    def set_alias(self, model: str, alias: str, version: int) -> None:
        """Point an alias at a version. The champion moves through `registry.champion.promotion` only.

        Raises:
            MissingError: there is no such model or version.
            BadInputError: the alias is not a lower-case word.
        """
        check_alias(alias)
        with self._reading() as client:
            _find(client, model, version)
            client.set_registered_model_alias(model, alias, str(version))

    def tag(self, model: str, version: int, name: str, value: str) -> None:
        """Note a fact about a version."""
        with self._reading() as client:
            client.set_model_version_tag(model, str(version), name, value)

    def download(self, model: str, which: str | int, to: Path) -> Path:
        """Copy a version's files to `to` and return it, every file checked against the version's seal.

        Raises:
            MissingError: there is no such model, version or alias, or its files are gone.
            BadInputError: a file differs from what was registered, or the files lie outside the configured roots.
            RetryableError: the files cannot be reached, or `to` cannot be written.
        """
        with self._reading() as client:
            found = _find(client, model, which)
            what = f"{model} v{found.version}"
            seal = found.tags.get(_SEAL)
            if not seal:
                raise BadInputError(f"{what} was not registered by Rankmill: register it with register_model")
            from mlflow.artifacts import download_artifacts
            from mlflow.exceptions import MlflowException

            source = location(client, found, self.tracking_uri, self.artifact_root)
            incoming = to.with_name(f".{to.name}.{uuid.uuid4().hex}")
            try:
                incoming.mkdir(parents=True)
                copied = download_artifacts(artifact_uri=source, dst_path=str(incoming), tracking_uri=self.tracking_uri)
                Path(copied).rename(to)
            except (OSError, MlflowException) as error:
                place = without_secrets(source)
                if (local := local_path(source)) is not None and not Path(local).exists():
                    raise MissingError(
                        f"files of {what} are gone from {place}: restore them or register the model again"
                    ) from error
                reason = reason_of(error).replace(source, place)
                raise RetryableError(
                    f"files of {what} cannot be copied from {place} to {to}: {reason}; fix it and run again"
                ) from error
            finally:
                shutil.rmtree(incoming, ignore_errors=True)
        check_seal(to, seal, what)
        return to

    @contextmanager
    def _reading(self) -> Iterator[MlflowClient]:
        require(self.tracking_uri)
        with asking(self.tracking_uri) as client:
            yield client


def _registered(found: ModelVersion) -> RegisteredVersion:
    return RegisteredVersion(
        model=found.name,
        version=int(found.version),
        digest=found.tags.get(_DIGEST, ""),
        model_uri=found.source or "",
        ranker_digest=found.tags.get(_RANKER, ""),
        report_digest=found.tags.get(_REPORT, ""),
        created_at=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
    )


def _shortened(description: str) -> str:
    """Return a text that MLflow's databases can hold, cut at a line."""
    if len(description) <= _LONGEST:
        return description
    more = "\n\nThe whole card is card.md."
    return description[: _LONGEST - len(more)].rpartition("\n")[0] + more


def _models(client: MlflowClient) -> list[str]:
    """Return the names of all registered models, sorted."""
    return sorted(found.name for found in _pages(client.search_registered_models, None))


def _search(client: MlflowClient, model: str) -> list[ModelVersion]:
    """Return the versions of a model of any name that MLflow allows."""
    plain = "'" not in model and "\\" not in model
    where = f"name = '{model}'" if plain else None  # MLflow's filters know no escape for a quote
    return [found for found in _pages(client.search_model_versions, where) if found.name == model]


def _dangling(client: MlflowClient, model: str) -> dict[str, int]:
    aliases = _aliases(client, model)
    known = {int(found.version) for found in _search(client, model)} if aliases else set()
    return {alias: number for alias, number in sorted(aliases.items()) if number not in known}


def _pages(search: Any, where: str | None) -> list[Any]:
    found, token = [], None
    while True:
        page = search(filter_string=where, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def _aliases(client: MlflowClient, model: str) -> dict[str, int]:
    """Return version by alias; a search for versions leaves aliases out, so the model itself is asked."""
    known = _models(client)
    if model not in known:
        names = ", ".join(known) if known else "none yet"
        raise MissingError(f"no registered model {model!r} (models: {names}): register one by running its pipeline")
    return {alias: int(number) for alias, number in client.get_registered_model(model).aliases.items()}


def _find(client: MlflowClient, model: str, which: str | int) -> ModelVersion:
    aliases = _aliases(client, model)
    if isinstance(which, str) and not which.isdecimal():
        if check_alias(which) not in aliases:
            known = ", ".join(f"{alias} → v{number}" for alias, number in sorted(aliases.items())) or "none yet"
            raise MissingError(f"model {model!r} has no alias {which!r} (aliases: {known})")
        alias, which = which, aliases[which]
        if all(int(found.version) != which for found in _search(client, model)):
            raise MissingError(
                f"alias {alias!r} of {model!r} points at v{which}, which was deleted: move it, as with `rankmill "
                f"rollback {model}`, or remove it with `rankmill models {model} --repair`"
            )
    versions = {int(found.version): found for found in _search(client, model)}
    if int(which) not in versions:
        known = ", ".join(f"v{number}" for number in sorted(versions)[-10:]) or "none yet"
        raise MissingError(f"model {model!r} has no version {which} (versions: {known})")
    return versions[int(which)]


def _create_model(client: MlflowClient, model: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(model, tags={"rankmill": "true"})
    except MlflowException as error:
        if "ALREADY_EXISTS" not in str(error.error_code):
            raise


def _known_run(client: MlflowClient, run_id: str | None) -> str | None:
    """Return `run_id` if this tracking store holds that run; a cached artifact may come from another one.

    A run that somebody deleted takes no more notes, so it counts as absent.
    """
    return run_id if run_id and lifecycle_stage(client, run_id) == "active" else None
