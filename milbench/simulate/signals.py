"""Signals: what patches hold. x = tanh((noise + site + patient + tumour + signals) / 3), so that |x| < 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from milbench.simulate.design import Design, per_task
from milbench.simulate.kinds import KindTask, Levels
from milbench.simulate.tissue import Tissue, apart, side_by_side

STREAM_DIRECTIONS, STREAM_SITE, STREAM_PATIENT = 3, 4, 5

SQUASH = 3.0
"""Value at which tanh starts to bend: three standard deviations of the noise."""

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Directions:
    """Fixed directions of a cohort in latent space [L], of length 1.

    Attributes
    ----------
    tasks : per task [K, L], the direction of each level that slides show, as long as the level's share of the full
        phenotype. A binary task has one direction, and each class but the first its own.
    common : [L], which the tasks share. tumour : [L].
    lift : [L, D] orthogonal map to the features, scaled so that values keep their size; None if D = L.
    """

    tasks: tuple[Floats, ...]
    common: Floats
    tumour: Floats
    lift: Floats | None


class Slide(NamedTuple):
    """Patches [N, D] of one slide, in the design's float type, and which of them carry each task, [N, T]."""

    features: NDArray[np.floating]
    truth: Bools


def draw_directions(design: Design, n_tasks: int, seed: int, kinds: Sequence[KindTask] = ()) -> Directions:
    """The cohort's directions: task t's is sqrt(sharing) common + sqrt(1 - sharing) own; `kinds` are not binary."""
    rng = np.random.default_rng([seed, STREAM_DIRECTIONS])
    latent = design.latent or design.width
    further = sum(len(task.shares) - 2 for task in kinds if task.endpoint.kind == "multiclass")
    basis = rng.standard_normal((n_tasks + 2 + further, latent))
    basis /= np.linalg.norm(basis, axis=1, keepdims=True)
    tasks = np.sqrt(design.sharing) * basis[0] + np.sqrt(1 - design.sharing) * basis[2:]
    tasks /= np.linalg.norm(tasks, axis=1, keepdims=True)
    lift = None
    if design.latent:
        orthogonal = np.linalg.qr(rng.standard_normal((design.width, latent))).Q
        lift = orthogonal.T * np.sqrt(design.width / latent)
    return Directions(_of_levels(tasks, n_tasks, kinds), basis[0], basis[1], lift)


def _of_levels(directions: Floats, n_tasks: int, kinds: Sequence[KindTask]) -> tuple[Floats, ...]:
    """Per task the direction of each level [K, L], of directions [T + further classes, L]."""
    levels = [np.stack([direction, direction]) for direction in directions[:n_tasks]]
    further = iter(directions[n_tasks:])
    for task in kinds:
        own = [directions[task.place]] * 2
        if task.endpoint.kind == "multiclass":
            own += [next(further) for _ in task.shares[2:]]
            levels[task.place] = np.stack(own)
        else:
            levels[task.place] = task.full[:, None] * own[0]
    return tuple(levels)


def shift_of(design: Design, seed: int, *, site: int, patient: int) -> Floats:
    """What all patches of a patient's slides have in common [L]: the site's batch effect and the patient's own."""
    latent = design.latent or design.width
    of_site = np.random.default_rng([seed, STREAM_SITE, site]).standard_normal(latent)
    of_patient = np.random.default_rng([seed, STREAM_PATIENT, patient]).standard_normal(latent)
    return np.asarray(design.site_sd * of_site + design.patient_sd * of_patient)


def paint(
    design: Design, directions: Directions, tissue: Tissue, carriers: Levels, load: float, shift: Floats, rng: Generator
) -> Slide:
    """The slide's patches.

    Parameters
    ----------
    carriers : [T] level of each task's phenotype that the slide shows; 0 = none.
    load : standardised number of phenotypes that it shows.
    shift : [L] of site and patient.
    """
    n_patches = len(tissue.cells)
    latent = rng.standard_normal((n_patches, len(shift))) + shift
    latent += np.outer(tissue.tumour, design.tumour * directions.tumour + design.burden * load * directions.common)
    n_tasks = len(carriers)
    truth = np.zeros((n_patches, n_tasks), dtype=bool)
    strengths = per_task("strengths", design.strengths, n_tasks)
    shares = per_task("witness_shares", design.witness_shares, n_tasks)
    for task, signal in enumerate(per_task("signals", design.signals, n_tasks)):
        marked = _marked(signal, tissue, round(shares[task] * n_patches), rng, carries=bool(carriers[task]))
        latent += np.outer(marked, strengths[task] * directions.tasks[task][carriers[task]])
        truth[:, task] = marked & bool(carriers[task])
    return Slide(_as_features(design, directions, latent, rng), truth)


def _marked(signal: str, tissue: Tissue, count: int, rng: Generator, *, carries: bool) -> Bools:
    """Patches [N] that are moved along a task's direction; in a layout task also without the phenotype."""
    if signal == "layout":
        return (side_by_side if carries else apart)(tissue.cells, min(max(count, 2), len(tissue.cells)), rng)
    marked = np.zeros(len(tissue.cells), dtype=bool)
    if signal == "diffuse":
        marked[:] = carries
    elif carries:
        places = np.flatnonzero(tissue.tumour)
        marked[rng.choice(places, size=min(max(count, 1), len(places)), replace=False)] = True
    return marked


def _as_features(design: Design, directions: Directions, latent: Floats, rng: Generator) -> NDArray[np.floating]:
    lifted = latent if directions.lift is None else latent @ directions.lift
    if design.pixel_noise:
        lifted = lifted + design.pixel_noise * rng.standard_normal(lifted.shape)
    return np.tanh(lifted / SQUASH).astype(design.dtype)
