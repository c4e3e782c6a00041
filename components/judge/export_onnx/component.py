"""How does `export_onnx` run? Load the ranker, write the graph, prove it equal, describe what it promises."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from components.data.training_set import EncodedSplit, raw_file, read_encoded, read_schema
from components.judge.export_onnx.config import Config, Inputs, Outputs
from components.platform.artifacts import OnnxModel
from components.platform.contract import MLFLOW_RUN_ID, RunContext
from components.platform.errors import BadInputError

if TYPE_CHECKING:
    import onnxruntime

    from registry.serving.model.contract import ParityReport

SAMPLED = 10_000
"""Training rows behind `hidden_mean`."""


def run(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Export the ranker and publish it only when the graph answers as the module does.

    Raises:
        BadInputError: the data set does not belong to the ranker, or the ranker cannot be exported.
        ParityError: the graph answers differently; the report is kept in the run's folder.
        MissingError: the requested provider did not load.
    """
    from components.judge.export_onnx.graph import OPSET, export_graph
    from components.judge.export_onnx.half import write_halved
    from components.judge.export_onnx.parity import BATCHES, compare, require, spread
    from components.judge.export_onnx.request import request_fields, request_ranker
    from components.judge.export_onnx.tables import Tables, remove_unread
    from components.rankers.config import RankerConfig
    from components.rankers.embedding.frozen import folded
    from components.rankers.tasks import tasks_of
    from components.train.ranker_files import CONFIG, load_ranker
    from features.encoding.files import copy_encoder
    from features.services.served import FEATURES
    from registry.serving.evidence.golden import check_golden, golden_rows, write_golden
    from registry.serving.model.contract import ModelContract
    from registry.serving.model.request_graph import (
        REQUEST,
        REQUEST_CONTRACT,
        REQUEST_PARITY,
        RequestContract,
        RequestGraph,
    )
    from registry.serving.model.served_model import CONTRACT, MODEL, ServedModel
    from registry.serving.model.session import open_session, outside

    trained, dataset = context.local(inputs.ranker), context.local(inputs.dataset)
    draft = context.draft("onnx_model")
    schema = read_schema(trained)
    if read_schema(dataset).fields != schema.fields:
        raise BadInputError(
            f"stage {context.stage!r}: the training set was encoded with other fields than the ranker was trained on: "
            "wire the training set of the ranker's own run"
        )
    ranker = load_ranker(trained)
    served = folded(ranker)
    tables = Tables.of(served)
    tasks = [task.name for task in tasks_of(schema.declaration)]
    context.progress("writing the graph")
    export_graph(served, schema, tasks, draft / MODEL, tables=tables)
    if config.precision == "float16":
        write_halved(draft / MODEL, type(ranker).__name__)

    session = open_session(draft / MODEL, config.provider)
    rows = read_encoded(dataset, "test", schema)
    if rows.rows == 0:
        raise BadInputError(f"stage {context.stage!r}: the test split is empty, so the graph cannot be checked")
    tested = rows.padded(spread(rows.rows, max(BATCHES)))

    def proven(graph: onnxruntime.InferenceSession, once: tuple[str, ...], file: str) -> ParityReport:
        """Compare torch and a graph, and write what was found: where it stays when the comparison fails."""
        context.progress(f"comparing torch and onnxruntime on {file.removesuffix('.json')}")
        parity = compare(ranker, graph, schema.fields, tasks, tested, config.allowed, once, config.precision)
        folder = draft if parity.passed else context.kept
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(parity.model_dump_json(indent=2), encoding="utf-8")
        require(parity, str(context.kept / file))
        return parity

    parity = proven(session, (), "parity.json")
    if config.shape == "request":
        once = request_fields(schema, config.context)
        context.progress("writing the graph of a request")
        export_graph(request_ranker(served, schema, once), schema, tasks, draft / REQUEST, once, tables)
        if config.precision == "float16":
            write_halved(draft / REQUEST, type(ranker).__name__)
        proven(open_session(draft / REQUEST, config.provider), once, REQUEST_PARITY)
        (draft / REQUEST_CONTRACT).write_text(RequestContract(once=once).model_dump_json(indent=2), encoding="utf-8")
    remove_unread(draft)

    mean = _hidden_mean(session, read_encoded(dataset, "train", schema))
    name = RankerConfig.model_validate_json((trained / CONFIG).read_text(encoding="utf-8")).name
    contract = ModelContract(
        ranker=name,
        ranker_digest=inputs.ranker.digest,
        schema=schema,
        tasks=tuple(tasks),
        hidden=len(mean),
        hidden_mean=mean,
        opset=OPSET,
    )
    (draft / CONTRACT).write_text(contract.model_dump_json(by_alias=True, indent=2), encoding="utf-8")
    shutil.copyfile(trained / "schema.json", draft / "schema.json")
    copy_encoder(trained, draft)
    loaded = ServedModel.open(draft, config.provider)  # what is published can be opened and keeps its contract
    write_golden(loaded, golden_rows(loaded, raw_file(dataset, "test")), draft)
    if (dataset / FEATURES).is_file():  # a training set of another package may not say where its columns come from
        shutil.copyfile(dataset / FEATURES, draft / FEATURES)
    check_golden(loaded, RequestGraph.open(loaded, config.provider) if config.shape == "request" else None)

    run_id = context.annotations_of(inputs.ranker).get(MLFLOW_RUN_ID)
    if run_id:
        context.annotate(MLFLOW_RUN_ID, run_id)
    worst = max(case.max_abs_difference for case in parity.cases)
    megabytes = sum((draft / name).stat().st_size for name in {MODEL, *outside(draft / MODEL)}) / 1e6
    precision = "" if config.precision == "float32" else f" in {config.precision}"
    context.note(
        f"{name}, {megabytes:.1f} MB{precision}, opset {OPSET}; {len(parity.cases)} parity cases on {loaded.provider}, "
        f"largest difference {worst:.1e}"
    )
    return Outputs(onnx_model=OnnxModel(uri=str(draft)))


def _hidden_mean(session: onnxruntime.InferenceSession, train: EncodedSplit) -> tuple[float, ...]:
    """Return the mean of ``hidden`` over training rows spread evenly, through the graph."""
    import numpy as np

    from components.judge.export_onnx.parity import spread
    from components.rankers.tasks import HIDDEN
    from registry.serving.model.session import outputs_of

    chosen = spread(train.rows, SAMPLED)
    sums = []
    for part in np.array_split(chosen, -(-len(chosen) // 1000)):
        sums.append(outputs_of(session, [HIDDEN], train.padded(part))[0].sum(axis=0, dtype=np.float64))
    return tuple(float(x) for x in np.sum(sums, axis=0) / len(chosen))
