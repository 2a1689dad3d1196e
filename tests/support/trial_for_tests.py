"""One trial whose every part is known."""

from milbench.trials.plan import Trial
from milbench.trials.recipe import Recipe

TRIAL = Trial(
    dataset="toy", model="tiny", tasks=("a",), fold=0, seed=42, hyperparameters={"hidden": 8, "dropout": 0.1},
    recipe=Recipe(), feature_scaling="none", fingerprint="f", split_sha256="s", model_version=1, source_sha256="x",
)  # fmt: skip
