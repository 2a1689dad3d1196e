"""Labels: a given table, or a synthetic one with stated prevalences, correlation and kinds of tasks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.random import Generator
from numpy.typing import NDArray

from milbench.errors import LabelTableError, UsageError
from milbench.labels import read_labels
from milbench.simulate.design import Design, per_task
from milbench.simulate.kinds import KindTask, kind_tasks

SLIDES_A_PATIENT = (0.85, 0.12, 0.03)
"""Share of synthetic patients with one, two and three slides; TCGA-UCEC has 0.92, 0.07, 0.01."""

STREAM_LABELS = 1
"""Random streams: each part of a cohort draws from `default_rng([seed, its stream, ...])`, so none moves another."""

POPULATION = 100_000
"""Synthetic patients whose labels stand for the generating distribution in the oracle."""


@dataclass(frozen=True, eq=False)
class LabelTable:
    """Who is positive, and the labels of tasks of other kinds.

    Attributes
    ----------
    slides : slide_id, patient_id, site, and one float column per task: 0, 1 or NaN if the task is binary, else one
        number as `milbench.endpoints.endpoint` says.
    tasks : the task columns.
    population : bool [R, B], label vectors of the binary tasks whose frequencies are the generating distribution.
    kinds : tasks that are not binary.
    """

    slides: pd.DataFrame
    tasks: tuple[str, ...]
    population: NDArray[np.bool_]
    kinds: tuple[KindTask, ...] = ()

    @property
    def binary(self) -> list[int]:
        """Places of the binary tasks."""
        others = {task.place for task in self.kinds}
        return [place for place in range(len(self.tasks)) if place not in others]


def make_labels(design: Design, seed: int, given: Path | None = None) -> LabelTable:
    """The given table, cut to `design.slides`, or a synthetic one."""
    if given and not design.all_binary:
        raise UsageError(f"kinds is {list(design.kinds)}; --labels takes binary tasks only. Leave out one of the two.")
    return _given(given, design.slides) if given else _synthetic(design, seed)


def _given(path: Path, n_slides: int) -> LabelTable:
    slides = read_labels(path).slides
    tasks = tuple(column for column in slides if column not in ("slide_id", "patient_id"))
    slides = slides.iloc[: n_slides or None].reset_index(drop=True)
    slides.insert(2, "site", [_site(patient) for patient in slides["patient_id"]])
    for slide in slides["slide_id"]:
        if set(slide) & set("/\\\0"):
            raise LabelTableError(f"{path}: slide '{slide}' cannot name a feature file. Rename it: no slash.")
    known = slides[list(tasks)].dropna().to_numpy() == 1
    return LabelTable(slides, tasks, known)


def _site(patient: str) -> str:
    """TCGA's tissue source site, the second part of TCGA-XX-YYYY; other patients share one site."""
    parts = patient.split("-")
    return parts[1] if len(parts) > 2 and parts[0] == "TCGA" else "all"


def _synthetic(design: Design, seed: int) -> LabelTable:
    if not design.slides:
        raise UsageError("slides is 0, which means all of a given table. Give --labels or --slides.")
    rng = np.random.default_rng([seed, STREAM_LABELS])
    owner = np.repeat(np.arange(design.slides), rng.choice([1, 2, 3], design.slides, p=SLIDES_A_PATIENT))
    owner = owner[: design.slides]
    n_patients = int(owner[-1]) + 1
    site = rng.integers(max(design.sites, 1), size=n_patients)
    site_shift = design.site_label_sd * rng.standard_normal((max(design.sites, 1), len(design.tasks)))
    labels = _copula(design, site_shift[site], rng)[owner]
    population = site_shift[rng.integers(len(site_shift), size=POPULATION)]
    ids = {
        "slide_id": [f"slide-{index:05d}" for index in range(design.slides)],
        "patient_id": [f"patient-{patient:05d}" for patient in owner],
        "site": [f"site-{site[patient]:02d}" for patient in owner],
    }
    table = pd.DataFrame({**ids, **dict(zip(design.tasks, labels.T.astype(float), strict=True))})
    kinds = kind_tasks(design)
    for task in kinds:
        table[task.name] = task.labels(seed, n_patients)[owner]
    made = LabelTable(table, design.tasks, _copula(design, population, rng), kinds)
    return replace(made, population=made.population[:, made.binary]) if kinds else made


def _copula(design: Design, shift: NDArray[np.float64], rng: Generator) -> NDArray[np.bool_]:
    """Labels [P, T] of a Gaussian copula with one factor; `shift` [P, T] moves the scores before the cut.

    The cut is the quantile over the patients at hand: every prevalence is met to a patient.
    """
    n_patients, n_tasks = shift.shape
    loading = np.array(per_task("loadings", design.loadings, n_tasks))
    prevalence = np.array(per_task("prevalences", design.prevalences, n_tasks))
    factor = rng.standard_normal((n_patients, 1))
    own = rng.standard_normal((n_patients, n_tasks))
    scores = loading * factor + np.sqrt(1 - loading**2) * own + shift
    ranks = scores.argsort(axis=0).argsort(axis=0)
    return np.asarray(ranks >= np.round((1 - prevalence) * n_patients))
