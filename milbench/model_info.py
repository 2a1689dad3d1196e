"""What a model declares when it registers: facts about its class, which tables, plans and searches read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from milbench.endpoints.endpoint import KINDS
from milbench.search_space import SearchSpace


class Sharing(NamedTuple):
    """Place of a model on the ladder of sharing, which is Table 3 of a report.

    Attributes
    ----------
    what : what the tasks share, in a few words: "nothing", "trunk", "experts, one gate".
    step : models stand in the order of this number. milbench's own have whole numbers, so 2.5 stands between two of them.
    after : registry name of the model that this one changes in one part. The report prints the gain over it or, if it did
        not run, over the model that it comes after. "" = nothing to compare with but the first row.
    """

    what: str
    step: float
    after: str = ""


@dataclass(frozen=True)
class ModelInfo:
    """Facts that a model declares when it registers.

    Attributes
    ----------
    name : name in the registry, for `--models`.
    title : name in tables and figures.
    tasks : "single" (one trial per task) or "multi" (one trial for all tasks).
    paper, official : citation, and official repository at a commit.
    order_matters : whether the order of the patches changes the output.
    version : part of every trial's identity. Raise it whenever the model's results change.
    official_recipe : training recipe of the official code, as data (see :mod:`milbench.trials.recipe`).
    takes_cohort_settings : whether arguments that a cohort sets for the baselines (`model:` in cohort.yaml) reach the
        model too, if it has arguments of these names.
    kinds : kinds of tasks that the model can learn. A model with a loss of its own knows binary tasks alone unless it
        says otherwise.
    learns_cox : whether a Cox loss can train it: its loss reads `BagOutput.logits` and no other numbers. If the model
        has a loss of its own, it says so itself.
    search_space : which settings are drawn when the model is tuned; None = the usual ones that it has. The rate and the
        decay are drawn in any case.
    needs_coords : whether the model gets a `Layout` beside the features. Cohorts without coordinates leave it out.
    study : whether a model of milbench's own is one that the M4 study compares (`--models study`); no part of an identity.
    sharing : place on the ladder of sharing; None = the model does not stand there.
    """

    name: str
    title: str
    tasks: Literal["single", "multi"]
    paper: str
    official: str
    order_matters: bool = False
    version: int = 1
    official_recipe: Mapping[str, Any] = field(default_factory=dict)
    takes_cohort_settings: bool = False
    kinds: tuple[str, ...] = KINDS
    learns_cox: bool = True
    search_space: SearchSpace | None = None
    needs_coords: bool = False
    study: bool = False
    sharing: Sharing | None = None
