"""The page of the Python interface, made from docstrings: `reference/api.md`."""

from __future__ import annotations

from collections.abc import Mapping

import milbench

PATH = "reference/api.md"
CLASSES: Mapping[str, tuple[str, ...]] = {
    "What they return": (
        "milbench.runs.notebook.NotebookRun",
        "milbench.store.trial.StoredTrial",
        "milbench.stats.analysis.Analysis",
        "milbench.runs.one_training.Training",
        "milbench.runs.ensemble.Ensemble",
        "milbench.export.exported.ExportedModel",
        "milbench.cohorts.cohort.Cohort",
        "milbench.bag.Bag",
    ),
    "For a model of your own": (
        "milbench.models.MILModel",
        "milbench.models.BagOutput",
        "milbench.models.AttentionMaps",
        "milbench.models.Sharing",
        "milbench.layout.Layout",
        "milbench.search_space.SearchSpace",
        "milbench.search_space.Choice",
        "milbench.search_space.Range",
        "milbench.search_space.Times",
        "milbench.search_space.TimesOneOf",
    ),
    "Errors": ("milbench.errors.MilbenchError",),
}


def pages() -> dict[str, str]:
    """The one page, by its path."""
    functions = [f".. autofunction:: milbench.{name}" for name in milbench.__all__]
    parts = [
        _part("Functions", functions),
        _part("To register a model", [".. autofunction:: milbench.models.register_model"]),
    ]
    parts += [_part(title, [_class(name) for name in names]) for title, names in CLASSES.items()]
    return {PATH: "# Functions and classes\n\n[In Python](/docs/python.md) shows them at work.\n\n" + "\n".join(parts)}


def _part(title: str, directives: list[str]) -> str:
    text = "\n\n".join(directives)
    return f"## {title}\n\n```{{eval-rst}}\n{text}\n```\n"


def _class(name: str) -> str:
    return f".. autoclass:: {name}\n   :members:"
