"""The baselines. Importing this package registers them: the nine of the study in the order of its tables, then the others."""

from __future__ import annotations

if __name__ != "milbench_baselines":
    # Importing the files under a second name would define every model class a second time.
    raise ImportError("import these models as `milbench_baselines`, not by the name of their folder")

from milbench_baselines import mean_pooling, max_pooling, amil, dsmil, transmil, dtfd_mil, mmoe, m4  # isort: skip
from milbench_baselines import shared_bottom, moe, ple  # isort: skip

__all__ = [
    "amil", "dsmil", "dtfd_mil", "m4", "max_pooling", "mean_pooling", "mmoe", "moe", "ple", "shared_bottom", "transmil",
]  # fmt: skip
