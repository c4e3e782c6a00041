"""How does `search_ranker` run? In this process, on one thread, so that the same search makes the same choice."""

from __future__ import annotations

from components.platform.artifacts import Architecture
from components.platform.contract import RunContext
from components.train.search_ranker.config import Config, Inputs, Outputs
from components.train.searched import FILE


def run(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Try every way of every pair of fields, choose on validation, and publish what was chosen.

    The test split is never read.

    Raises:
        BadInputError: a split has no rows, there is no pair to try, too many, or learning diverged.
    """
    import torch

    from components.train.search_ranker.page import write_page
    from components.train.search_ranker.search import search

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = search(context.local(inputs.dataset), inputs.dataset.digest, config, context.progress)
    finally:
        torch.set_num_threads(threads)
    draft = context.draft("architecture")
    (draft / FILE).write_text(found.model_dump_json(indent=2), encoding="utf-8")
    write_page(draft, found)
    context.note(f"{len(found.pairs)} pairs: {found.told}")
    ways = (
        f"{found.naive:.4f} with nothing, {found.chosen:.4f} as chosen on them, {found.all_memorised:.4f} all "
        f"memorised, {found.all_factorised:.4f} all factorised"
    )
    context.note(f"log-loss of {found.rows:,} validation rows in the searched network: {ways}")
    return Outputs(architecture=Architecture(uri=str(draft)))
