"""How are the files of the Open Bandit data named?"""

from __future__ import annotations

from collections.abc import Iterable


def log_name(policy: str, campaign: str) -> str:
    """Return the path of the impressions of a policy in a campaign."""
    return f"{policy}/{campaign}/{campaign}.csv"


def products_name(policy: str, campaign: str) -> str:
    """Return the path of the products of a campaign."""
    return f"{policy}/{campaign}/item_context.csv"


def needed(policy: str, campaigns: Iterable[str]) -> tuple[str, ...]:
    """Return the paths of every file that is read."""
    names = (log_name, products_name)
    return tuple(name(policy, campaign) for campaign in sorted(set(campaigns)) for name in names)
