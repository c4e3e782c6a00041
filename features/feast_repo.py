"""What does `feast -c features apply` register? Every definition of this tree; Feast ignores every other file.

Feast imports each file of its folder as a top-level module, which would load the definitions twice, and registers what
it finds among the module's names.
"""

from pathlib import Path

from features.definitions import load_definitions

FOUND = load_definitions()
SOURCES = {view.batch_source.name: view.batch_source for view in FOUND.views}
globals().update(
    {f"{type(one).__name__}_{one.name}": one for one in (*FOUND.entities, *FOUND.views, *FOUND.services)}
    | {f"source_{name}": source for name, source in SOURCES.items()}
)

# Feast makes the last folder of its registry's path only; on a fresh clone its parent is missing as well.
(Path(__file__).resolve().parent.parent / ".rankmill").mkdir(exist_ok=True)
