"""Experts: what the gates of a mixture use, and whether its experts look at different patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from milbench.cohorts.bag_names import SLIDE
from milbench.heatmap.attention import as_array, looks
from milbench.heatmap.stored import RunCohort, StoredModel

Floats = NDArray[np.float64]

MUCH_THE_SAME, ELSEWHERE = 0.75, 0.25
"""Overlap beyond chance, as a share of what chance leaves, above or below which the sentence says so."""

SEED = 0


@dataclass(frozen=True, eq=False)
class ExpertUsage:
    """A mixture's gates and experts, as means over a fold's test slides.

    Attributes
    ----------
    gates : [T, E]. Mean gate weights; rows sum to 1.
    entropy : [T]. Mean entropy of a slide's gate weights over log E: 1 = all experts alike, 0 = one alone.
    overlap : [E, E]. Mean of sum_n min(a_en, a_fn): 1 = the same map, 0 = no patch in common.
    chance : the same for two experts, one map's patches shuffled; mean over pairs.
    n_slides : test bags; `bag` is what one is, "slide" or "patient".
    """

    dataset: str
    model: str
    title: str
    fold: int
    tasks: tuple[str, ...]
    experts: tuple[str, ...]
    gates: Floats
    entropy: Floats
    overlap: Floats
    chance: float
    n_slides: int
    bag: str = SLIDE

    @property
    def pairwise(self) -> float:
        """Mean overlap of two different experts."""
        return float(self.overlap[~np.eye(len(self.overlap), dtype=bool)].mean())


def expert_usage(cohort: RunCohort, names: Sequence[str], fold: int) -> list[ExpertUsage]:
    """Usage of every mixture among the models; models without gates have none."""
    models = [stored for name in names for stored in cohort.load_all(name, fold)]
    mixtures = [stored for stored in models if _has_gates(stored)]
    return [_usage(cohort, stored, fold) for stored in mixtures]


def _has_gates(stored: StoredModel) -> bool:
    maps = stored.model.maps(stored.model.bag_like(torch.zeros(2, stored.model.in_features)))
    return maps.gates is not None and maps.per_expert is not None and len(maps.experts) > 1


def _usage(cohort: RunCohort, stored: StoredModel, fold: int) -> ExpertUsage:
    rng = np.random.default_rng(SEED)
    gates, overlaps, chances = [], [], []
    experts: tuple[str, ...] = ()
    for look in looks(cohort, [stored], cohort.slides(fold, "test")):
        maps = look.seen[0][1]
        experts = maps.experts
        attention = as_array(maps.per_expert)  # type: ignore[arg-type]  # [E, N]; mixtures alone come here
        gates.append(as_array(maps.gates))  # type: ignore[arg-type]
        overlaps.append(overlap(attention, attention))
        shuffled = overlap(attention, attention[:, rng.permutation(attention.shape[1])])
        chances.append(shuffled[~np.eye(len(experts), dtype=bool)].mean())
    return ExpertUsage(
        cohort.name, stored.name, stored.model.info.title, fold, stored.tasks, experts, np.mean(gates, axis=0),
        np.mean([entropy(g) for g in gates], axis=0), np.mean(overlaps, axis=0), float(np.mean(chances)), len(gates),
        cohort.cohort.bag,
    )  # fmt: skip


def overlap(a: Floats, b: Floats) -> Floats:
    """Attention that two maps share, [E, F] of maps [E, N] and [F, N] that sum to 1."""
    return np.stack([np.minimum(row, b).sum(axis=1) for row in a])


def entropy(gates: Floats) -> Floats:
    """Entropy [T] of gate weights [T, E] over log E."""
    safe = np.where(gates > 0, gates, 1.0)
    return np.asarray(-(gates * np.log(safe)).sum(axis=1) / np.log(gates.shape[1]))


def usage_table(usages: Sequence[ExpertUsage]) -> pd.DataFrame:
    """One row per model and task: mean gate weight of each expert, and entropy."""
    rows = [
        {"dataset": u.dataset, "model": u.model, "title": u.title, "fold": u.fold, "task": task, "n_slides": u.n_slides}
        | dict(zip(u.experts, weights.tolist(), strict=True))
        | {"gate_entropy": float(entropy_of_task)}
        for u in usages
        for task, weights, entropy_of_task in zip(u.tasks, u.gates, u.entropy, strict=True)
    ]
    return pd.DataFrame(rows)


def overlap_table(usages: Sequence[ExpertUsage]) -> pd.DataFrame:
    """One row per model and pair of experts: overlap of their maps, and what chance gives."""
    rows = [
        (u.dataset, u.model, u.title, u.fold, u.experts[i], u.experts[j], float(u.overlap[i, j]), u.chance)
        for u in usages
        for i in range(len(u.experts))
        for j in range(i + 1, len(u.experts))
    ]
    columns = ["dataset", "model", "title", "fold", "expert", "other", "overlap", "overlap_by_chance"]
    return pd.DataFrame(rows, columns=columns)


def answer(usage: ExpertUsage) -> str:
    """Sentence on whether each expert looks at something else, with its numbers."""
    beyond = (usage.pairwise - usage.chance) / max(1 - usage.chance, 1e-9)
    verdict = (
        "the experts look at much the same patches" if beyond > MUCH_THE_SAME
        else "the experts look at different patches, hardly more alike than by chance" if beyond < ELSEWHERE
        else "the experts look at partly different patches"
    )  # fmt: skip
    used = float(np.exp(usage.entropy * np.log(len(usage.experts))).mean())
    return (
        f"{usage.title} on {usage.dataset}, fold {usage.fold}: {verdict}: two of them share {usage.pairwise:.2f} of their "
        f"attention (chance {usage.chance:.2f}, the same map 1), and a task's gate uses {used:.1f} of "
        f"{len(usage.experts)} experts; between tasks the gates differ by {_difference(usage.gates):.2f} "
        "(0 = every task mixes alike, 1 = no expert in common)."
    )


def _difference(gates: Floats) -> float:
    """Mean total variation distance between the mean gates [T, E] of two tasks."""
    if len(gates) < 2:
        return 0.0
    distances = np.abs(gates[:, None] - gates[None]).sum(axis=2) / 2  # [T, T]
    return float(distances[np.triu_indices(len(gates), 1)].mean())
