"""The baselines: the study's nine, then others. Importing this package registers them in the order of its tables."""

from __future__ import annotations

if __name__ != "milbench_baselines":
    # Importing the files under a second name would define every model class a second time.
    raise ImportError("import these models as `milbench_baselines`, not by the name of their folder")

from milbench_baselines import mean_pooling, max_pooling, amil, dsmil, transmil, dtfd_mil, mmoe, m4  # isort: skip
from milbench_baselines import clam, acmil, ilra, rrt_mil, wikg  # isort: skip
from milbench_baselines import shared_bottom, moe, ple, la_mil, barspoon  # isort: skip

__all__ = [
    "acmil", "amil", "barspoon", "clam", "dsmil", "dtfd_mil", "ilra", "la_mil", "m4", "max_pooling", "mean_pooling",
    "mmoe", "moe", "ple", "rrt_mil", "shared_bottom", "transmil", "wikg",
]  # fmt: skip
