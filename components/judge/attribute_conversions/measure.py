"""How large is a channel's effect, how sure, and what do touches say of it? Sums over rows, a bootstrap over users."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.judge.attribute_conversions.config import Config
from components.judge.attribute_conversions.credit import Effects, Floats, Stream, Touches
from components.judge.attribute_conversions.report import Channel
from registry.evaluation import Interval
from registry.metrics.resampling import bootstrap_ratios
from registry.serving.answers.reasons import stability

FULL = 0.1
"""Share of rows with a full history from which a remark says that older events may be cut."""
FEW = 100
"""Rows with a channel's events below which a remark says so."""
UNREAD = 0.005
"""Σ |p − p without any event| per conversion below which a remark says that the model does not read them."""
OFF = 0.2
"""Predicted over observed conversions further than this from 1 makes a remark."""


@dataclass(frozen=True)
class Judged:
    """Rows with what a model makes of them."""

    label: Floats
    """``[rows]``, 0 or 1."""
    user: NDArray[Any]
    """``[rows]``, equal for rows of the same user."""
    stream: Stream
    touches: Touches
    found: Effects
    auc: float


def channels_of(judged: Judged, again: Judged | None, config: Config) -> tuple[Channel, ...]:
    """Return every channel, the largest effect first."""
    label = judged.label
    converted: NDArray[np.bool_] = label > 0
    touches = {name: judged.touches.of(group) for name, group in judged.stream.channels.items()}
    of_converted = judged.touches.event[converted]
    newest = _newest(of_converted)
    pairs = {f"effect {name}": (lost, label) for name, lost in judged.found.lost.items()}
    pairs |= {f"converted {name}": (lost * label, label) for name, lost in judged.found.lost.items()}
    sure = bootstrap_ratios(pairs, judged.user, config.bootstrap, config.seed, config.confidence)
    above = {name: max(0.0, sure[f"effect {name}"].value or 0.0) for name in touches}
    total = sum(above.values())
    made = [
        Channel(
            name=name,
            rows=int(events.any(axis=1).sum()),
            effect=sure[f"effect {name}"],
            share=above[name] / total if total > 0 else None,
            converted=sure[f"converted {name}"],
            logit=_mean(judged.found.logit[name][events.any(axis=1)]),
            touches=_mean(events[converted][of_converted]),
            last=_mean(np.logical_or.reduce(events[converted] & newest, axis=1)[of_converted.any(axis=1)]),
            again=None if again is None else float(again.found.lost[name].sum() / label.sum()),
        )
        for name, events in touches.items()
    ]
    seen = [channel for channel in made if channel.rows]  # what nobody met, least of all any other value, is no line
    return tuple(sorted(seen, key=lambda channel: (-(channel.effect.value or 0.0), channel.name)))


def together_of(judged: Judged, config: Config) -> Interval:
    """Return the effect of all events at once, per conversion."""
    pair = {"together": (judged.found.together, judged.label)}
    return bootstrap_ratios(pair, judged.user, config.bootstrap, config.seed, config.confidence)["together"]


def stability_of(channels: tuple[Channel, ...]) -> float | None:
    """Return how alike two models order the channels; None without a second or an order."""
    one = {channel.name: channel.effect.value or 0.0 for channel in channels}
    other = {channel.name: channel.again for channel in channels if channel.again is not None}
    return stability(one, other) if other else None


def remarks(judged: Judged, channels: tuple[Channel, ...]) -> tuple[str, ...]:
    """Return what a reader must know of these figures."""
    lines = []
    full = float(judged.touches.event.all(axis=1).mean())
    if full > FULL:
        lines.append(f"{full:.0%} of the histories are full: events before them are not in any figure")
    ratio = float(judged.found.whole.sum() / judged.label.sum())
    if abs(ratio - 1) > OFF:
        lines.append(f"{ratio:.2f} conversions are predicted for each that came: effects are off by as much")
    if abs(judged.found.together).sum() < UNREAD * judged.label.sum():
        lines.append(
            "all events at once hardly move the answer: the model reads something else, so that no channel counts"
        )
    if few := [channel.name for channel in channels if channel.rows < FEW]:
        lines.append(f"fewer than {FEW} rows have events of {', '.join(few)}: what is said of them is of few")
    return tuple(lines)


def _newest(event: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return bool ``[rows, length]``, the first event of each row."""
    return np.asarray(event & (np.cumsum(event, axis=1) == 1))


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if values.size else 0.0
