"""Which commands answer questions? `serve` starts a service, `ask` asks it, `serving` shows what is live."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from components.platform.settings import Settings, quiet_engines
from registry.serving.wire.config import Engine

if TYPE_CHECKING:
    import httpx

    from registry.serving.wire.protocol import Tensor


SHOWN = 20
"""Candidates that `ask` shows, the best first."""


def serve(
    service: Annotated[str, typer.Argument(help="Name or file of a service.", metavar="SERVICE")],
    port: Annotated[int | None, typer.Option(help="Port to listen on, instead of the file's.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that answer, instead of the file's.")] = None,
    on: Annotated[
        Engine | None, typer.Option(help="What runs them; left out, Ray where the profile names a cluster.")
    ] = None,
) -> None:
    """Answer questions about a model over HTTP (Open Inference Protocol V2) until Ctrl-C, and follow its champion."""
    os.environ["OMP_NUM_THREADS"] = "1"  # numpy looks when it is imported: more threads of small products cost more
    from pipelines.language.serving import load_serving, serving_file
    from pipelines.run.service.processes import serve as answer

    quiet_engines()
    config = load_serving(serving_file(service))
    chosen = {name: value for name, value in (("port", port), ("workers", workers)) if value is not None}
    config = config.model_copy(update={"listen": config.listen.model_copy(update=chosen)})
    listen = config.listen
    typer.echo(
        f"{config.name}: {config.model} @{config.follow.alias} on {listen.address}, "
        f"{listen.workers} {'process' if listen.workers == 1 else 'processes'}; Ctrl-C stops it"
    )
    raise typer.Exit(answer(config, on))


def ask(
    model: Annotated[str, typer.Argument(help="Name of the model.", metavar="MODEL")],
    items: Annotated[str | None, typer.Option(help="Ids of the candidates, with commas between them.")] = None,
    retrieve: Annotated[
        int | None, typer.Option(min=1, help="Instead of --items: how many candidates the service should find.")
    ] = None,
    user: Annotated[str | None, typer.Option(help="Id of the user.")] = None,
    given: Annotated[
        list[str] | None,
        typer.Option("--set", help="A column that the store does not hold, NAME=VALUE; may be repeated."),
    ] = None,
    at: Annotated[
        str | None, typer.Option(help="Time of the request, such as 1998-04-24T12:00:00Z; now if left out.")
    ] = None,
    url: Annotated[str, typer.Option(help="Address of the service.")] = "http://127.0.0.1:8500",
    token_env: Annotated[
        str, typer.Option(help="Environment variable with the service's token.")
    ] = "RANKMILL_SERVING_TOKEN",  # noqa: S107  # the name of a variable
) -> None:
    """Ask a running service about one user and some candidates, and show them best first."""
    from registry.serving.wire.protocol import Question, question_body, read_reply

    if (items is None) == (retrieve is None):
        raise typer.BadParameter("name the candidates by --items, or say by --retrieve how many should be found")
    with _client(url, token_env) as client:
        known = _got(client, f"/v2/models/{model}")
        columns = {one["name"]: one for one in known["inputs"]}
        declared = known["parameters"]
        asked: dict[str, list[str]] = {declared["item"]: items.split(",")} if items is not None else {}
        if user is not None:
            asked[declared["user"]] = [user]
        if at is not None:
            asked[declared["time"]] = [at]
        for part in given or []:
            name, equal, value = part.partition("=")
            if not equal:
                raise typer.BadParameter(f"--set {part} names no value: write NAME=VALUE")
            asked[name] = [value]
        columns.setdefault(declared["time"], {"datatype": "BYTES", "shape": [-1]})
        tensors = {name: _tensor(name, values, columns) for name, values in asked.items()}
        outputs = (*(one["name"] for one in known["outputs"] if one["name"] != "rank"), "rank")
        body = question_body(Question(tensors, outputs=outputs, retrieve=retrieve))
        answer = _answered(client.post(f"/v2/models/{model}/infer", content=body))
    reply = read_reply(answer.content)
    found = reply.outputs.get(declared["item"])
    _show(reply, asked[declared["item"]] if found is None else [str(item) for item in found.tolist()])


def serving() -> None:
    """Show what every service of the files answers with, and what answered last on this machine."""
    from pipelines.language.serving import load_serving, serving_files
    from pipelines.run.service.versions import serving_folder
    from pipelines.show.terminal import folding, show
    from registry.serving.wire.pointed import Pointed

    settings = Settings.from_environment()
    shown = folding("service", "model", "address", "answers", "last here")
    models: dict[str, None] = {}
    for name, path in sorted(serving_files().items()):
        config = load_serving(path)
        address = config.listen.address
        try:
            last = Pointed.model_validate_json((serving_folder(settings, config.model) / "live.json").read_bytes())
            before = f"v{last.version}"
        except (OSError, ValueError):
            before = "–"
        shown.add_row(name, f"{config.model} @{config.follow.alias}", address, _state(config.model, address), before)
        models[config.model] = None
    show(shown)
    for line in _held(settings, [*models]):
        typer.echo(line)


def _held(settings: Settings, models: list[str]) -> Iterator[str]:
    """Yield which models people hold; a ledger that cannot be read is told."""
    from datetime import UTC, datetime

    from features.ground.errors import RankmillError
    from registry.champion.consent import hold, hold_said
    from registry.champion.ledger import Ledger

    for model in models:
        try:
            held = hold(Ledger(settings.ledger).entries(model), datetime.now(UTC))
        except RankmillError as error:
            yield f"whether {model} is held is not known: {error}"
            continue
        if held:
            yield f"{model} is {hold_said(held)}: no pipeline moves its champion until `rankmill lift {model}`"


def _state(model: str, address: str) -> str:
    import httpx

    try:
        with _client(address, "RANKMILL_SERVING_TOKEN") as client:
            found = client.get(f"/v2/models/{model}")
            if found.status_code == 401:
                return "runs, asks for its token"
            if found.status_code != 200:
                return f"runs, not ready: {found.json().get('error', found.status_code)}"
            read = found.json()
            memory = ", with its error memory" if read["parameters"]["memory"] else ""
            return f"v{read['versions'][0]}{memory}{_beside(read['parameters'])}"
    except (httpx.HTTPError, ValueError, KeyError):
        return "not running"


def _beside(parameters: Mapping[str, Any]) -> str:
    """Return what is said of versions beside the one that answers."""
    said = ""
    for name, of in (("shadow", "questions"), ("canary", "users")):
        if told := parameters.get(name):
            version = f"v{told['version']}" if told["version"] else f"none at {told['alias']}"
            stopped = f", given up: {told['stopped']}" if told.get("stopped") else ""
            said += f"; {name} {version} ({told['share']:.1%} of {of}{stopped})"
    return said


def _client(url: str, token_env: str) -> httpx.Client:
    import httpx

    token = os.environ.get(token_env)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.Client(base_url=url, headers=headers, timeout=10)


def _got(client: httpx.Client, path: str) -> Mapping[str, Any]:
    import httpx

    from features.ground.errors import BadInputError, MissingError

    try:
        found: dict[str, Any] = _answered(client.get(path)).json()
    except httpx.ConnectError:
        raise MissingError(
            f"nothing answers at {client.base_url}: start a service with `rankmill serve`, or name its --url"
        ) from None
    except (httpx.HTTPError, ValueError) as error:
        raise BadInputError(f"{client.base_url} is no service of Rankmill ({error}): name its --url") from None
    return found


def _answered(answer: httpx.Response) -> httpx.Response:
    from features.ground.errors import BadInputError

    if answer.status_code != 200:
        try:
            said = answer.json()["error"]
        except (ValueError, KeyError):
            said = f"status {answer.status_code}"
        raise BadInputError(f"{answer.url.host}:{answer.url.port} refuses: {said}")
    return answer


def _tensor(name: str, values: list[str], columns: Mapping[str, Mapping[str, Any]]) -> Tensor:
    """Return what was written on the command line as a tensor of the column's datatype."""
    from features.ground.errors import BadInputError, did_you_mean
    from registry.serving.wire.protocol import FRACTIONS, INTEGERS, Tensor

    if name not in columns:
        raise BadInputError(f"the model reads no {name!r}{did_you_mean(name, columns)}")
    kind = columns[name]["datatype"]
    try:
        plain: tuple[Any, ...]
        if kind in INTEGERS:
            plain = tuple(int(value) for value in values)
        elif kind in FRACTIONS:
            plain = tuple(float(value) for value in values)
        elif kind == "BOOL":
            plain = tuple({"true": True, "false": False}[value.lower()] for value in values)
        else:
            plain = tuple(values)
    except (ValueError, KeyError):
        raise BadInputError(f"{name} is {kind}, and {','.join(values)!r} is none: correct it") from None
    if len(columns[name]["shape"]) == 2:
        return Tensor(name, kind, (1, len(plain)), plain)
    return Tensor(name, kind, (len(plain),), plain)


def _show(reply: Any, items: list[str]) -> None:
    from pipelines.show.terminal import folding, show

    outputs = [name for name, values in reply.outputs.items() if name != "rank" and values.dtype.kind == "f"]
    shown = folding("rank", "item", *outputs)
    places = reply.outputs["rank"]
    for row in sorted(range(len(items)), key=lambda row: int(places[row]))[:SHOWN]:
        figures = (f"{float(reply.outputs[name][row]):.4f}" for name in outputs)
        shown.add_row(str(int(places[row])), items[row], *figures)
    show(shown)
    said = [f"{reply.model} v{reply.version} ({reply.parameters.get('role', '')})"]
    if missing := reply.parameters.get("missing"):
        said.append("without " + ", ".join(f"{view} of {count}" for view, count in sorted(missing.items())))
    if degraded := reply.parameters.get("degraded"):
        said.append(f"degraded: {', '.join(degraded)}")
    typer.echo("; ".join(said))
