"""Where does the Open Bandit data come from, which files are there, and which bytes are they?"""

from __future__ import annotations

from collections.abc import Iterable

from components.ingest.download import WheelFiles, files_in

_FILES = (
    ("random/all/all.csv", 5_039_451, "7168295b6e0a9eabcf3392320a5dd434e542b68e705d5cd9491499af589812f1"),
    ("random/all/item_context.csv", 10_041, "eba04cc23d5f130a93ff174c5392986882b94c3839433cb8143870eaa6221358"),
    ("random/men/men.csv", 3_336_811, "ede6d08c6877f99cd3770f7d09e26c738e6aa6de4445ccccfb1356ba5d06b1eb"),
    ("random/men/item_context.csv", 4_287, "6d855c2b7e917d0448d71bbe62c023147495882c0fdc8c41e86fef86abf9fe09"),
    ("random/women/women.csv", 3_817_771, "e65f3bd3beb17664fa69cc129bf7bf852a775f8ffa630506e505fc905315bb34"),
    ("random/women/item_context.csv", 5_792, "b1ca4905f97703d196004f2ad4552c1e90c2afad8b50688d333b0d2dc0b33147"),
    ("bts/all/all.csv", 5_084_456, "0ad874e4dbf6902f0845dd478ad8dde5ef6903583d3ffaace78411bdad064106"),
    ("bts/all/item_context.csv", 10_041, "5d4359ba1cfa3ae88f0f1bae66bd633859fe6323817183632ee57b83539d9153"),
    ("bts/men/men.csv", 3_240_432, "db6d1f7ed2d591ba521533e45286d4c1fba7fe57a8ad2e80342210335f43c527"),
    ("bts/men/item_context.csv", 4_287, "3b411ed6b0471316321a6b93f4f756bb25888eac6218cd71d0b603d41d85732d"),
    ("bts/women/women.csv", 3_722_697, "e5d1b49a39b608585a2f3014a3f54970430cd37a495c1b73fceb85cdf428a5b8"),
    ("bts/women/item_context.csv", 5_792, "a56295bad066a558eb783055afd9279f5f4e209a4776eafc22151c53f0ac89d4"),
)
"""Path below the data set's folder, in the wheel too; bytes; sha256."""

RELEASE = WheelFiles(
    name="open-bandit",
    requirement="obp==0.4.1",
    wheel="obp-0.4.1-py3-none-any.whl",
    wheel_sha256="87dec9caf4283c25ab13036532e0a24566f1c7bdcad1653a8ded43b2f5ef8208",
    files=files_in("obp/dataset/obd", _FILES),
)
"""The sample that travels with the data set's own library: 10,000 impressions per policy and campaign."""


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
