"""Does a well-formed pipeline make sense? One small function per rule, one sentence per mistake.

To add a rule, write a function of a `PipelineDraft` into the file of its idea and put it into the tuple there.
"""

from __future__ import annotations

from pipelines.language.rules.draft import Rule
from pipelines.language.rules.files import NAMED_FILE_RULES, OWN_FILE_RULES
from pipelines.language.rules.notify import NOTIFY_RULES
from pipelines.language.rules.profile import gpus_are_there
from pipelines.language.rules.ranker import RANKER_RULES
from pipelines.language.rules.scheduling import SCHEDULING_RULES
from pipelines.language.rules.tuning import TUNING_RULES
from pipelines.language.rules.values import PARAM_RULES, VALUE_RULES
from pipelines.language.rules.watching import WATCHING_RULES
from pipelines.language.rules.wiring import WIRING_RULES

CONFIG_RULES: tuple[Rule, ...] = (*VALUE_RULES, *RANKER_RULES, *NAMED_FILE_RULES)
"""Every rule about what stands in `with:` blocks: those of a pipeline's stages and those of a comparison's entries."""
RULES: tuple[Rule, ...] = (
    *OWN_FILE_RULES,
    *WIRING_RULES,
    *PARAM_RULES,
    *SCHEDULING_RULES,
    *CONFIG_RULES,
    *WATCHING_RULES,
    *TUNING_RULES,
    *NOTIFY_RULES,
    gpus_are_there,
)
"""Every rule, in the order in which a reader would check by hand."""
