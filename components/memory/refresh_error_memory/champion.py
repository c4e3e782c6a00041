"""Which version is champion now? Its files, opened, for stages that keep something beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from components.platform.contract import RunContext
from components.platform.errors import MissingError

if TYPE_CHECKING:
    from registry.serving.model.contract import RegisteredVersion
    from registry.serving.model.served_model import ServedModel


def champion_of(
    model: str, provider: Literal["auto", "cpu", "cuda"], context: RunContext
) -> tuple[RegisteredVersion, ServedModel]:
    """Return the champion of a model and its files, opened.

    Raises:
        MissingError: it has none.
    """
    from registry.serving.model.served_model import ServedModel
    from registry.versions.client import CHAMPION, Registry

    registry = Registry(context.settings.tracking_uri, context.settings.mlflow_artifacts)
    version = registry.alias(model, CHAMPION)
    if version is None:
        raise MissingError(
            f"model {model!r} has no champion whose errors could be remembered: "
            "run the pipeline that trains and promotes it first"
        )
    # By number: the alias may move while the files are on their way.
    directory = registry.download(model, version.version, context.scratch / "champion")
    return version, ServedModel.open(directory, provider, label=f"model {model} v{version.version}")
