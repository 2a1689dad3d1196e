"""digits: real handwritten digits as bags on a raster, with ten tasks of known difficulty.

Every patch is one of scikit-learn's 1,797 images (UCI optdigits, 8 × 8 pixels, divided by 16), so there is
nothing to download. A bag is a full square raster of 36 patches; a patient owns one to three bags
that share the patient's labels. The tasks separate ways of pooling:

========================  ==========  ===========================================================
task                      prevalence  what decides it
========================  ==========  ===========================================================
has_0 has_2 has_4 has_6   .50 - .30   one or two patches of 36 show the digit: rare presence
has_9                     .25         the same, shy of the others
both_0_2, both_4_6        derived     conjunctions of two presences
many_3                    .60         share of 3s among the background: a proportion
block_1                   .50         four 1s stand in one 2 × 2 block, or apart: only the layout
control                   .40         coin tosses: nothing to learn, must stay near 0.5
========================  ==========  ===========================================================

Presences share a latent factor, so tasks are correlated as genes are. The images recur between
bags (26,640 patches from 1,797 images): labels belong to bags, so no label leaks, but a model may
meet a test patch's pixels in training.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from milbench.bag import Bag
from milbench.cohorts.cohort import Cohort
from milbench.cohorts.tuned import read_tuned
from milbench.datasets import Dataset, catalogue
from milbench.errors import DataError

GRID = 6
PATCHES = GRID * GRID
PATIENTS = 600
N_BAGS = 740
"""What the seed makes of one to three bags per patient."""

SEED = 0
PATCH_SIZE = 8
MODEL_DEFAULTS: Mapping[str, Any] = {"hidden": 64, "attention": 32, "landmarks": 8, "heads": 1}
TRAINER_DEFAULTS: Mapping[str, Any] = {"lr": 0.015, "weight_decay": 1e-4, "epochs": 8, "bags_per_step": 16}

TUNED = Path(__file__).with_name("digits_tuned.yaml")
"""What a search chose for each model on validation sides; `benchmarks/digits_tuning.yaml` holds the search."""


class Presence(NamedTuple):
    """A task that asks whether a digit is there."""

    digit: int
    witnesses: int  # patches of 36 that show the digit in a positive bag
    prevalence: float
    loading: float  # on the latent factor that correlates the tasks


PRESENCE = {
    "has_0": Presence(0, 1, 0.50, 0.7),
    "has_2": Presence(2, 2, 0.45, 0.7),
    "has_4": Presence(4, 1, 0.40, 0.6),
    "has_6": Presence(6, 1, 0.30, 0.6),
    "has_9": Presence(9, 2, 0.25, -0.5),
}
"""2 and 9 look like some of the background and get two witnesses, the others one."""

CONJUNCTIONS = {"both_0_2": ("has_0", "has_2"), "both_4_6": ("has_4", "has_6")}
TASKS = (*PRESENCE, *CONJUNCTIONS, "many_3", "block_1", "control")
CONTROL = "control"
BACKGROUND = (3, 5, 7)
SHARE_OF_3 = {True: 0.55, False: 0.35}
"""Share of 3s among background patches where many_3 is positive or negative."""


class DigitBags(NamedTuple):
    """Everything a cohort of digits consists of; S bags of 36 patches, T tasks."""

    features: NDArray[np.float32]  # [S, 36, 64]
    digits: NDArray[np.int64]  # [S, 36] which digit each patch shows
    truth: NDArray[np.bool_]  # [S, 36, T] patches that carry the evidence of each task
    slides: pd.DataFrame


def make_digits(seed: int = SEED) -> DigitBags:
    """The cohort's bags, the same for the same seed."""
    rng = np.random.default_rng(seed)
    images = images_by_digit()
    labels = _patient_labels(rng)
    bags_per_patient = rng.choice([1, 2, 3], size=PATIENTS, p=[0.80, 0.15, 0.05])
    owner = np.repeat(np.arange(PATIENTS), bags_per_patient)
    rows = labels.to_dict("records")  # a Series per bag would take longer than all else
    digits = np.stack([_lay_out(rows[patient], rng) for patient in owner])
    features = draw_images(digits, images, rng)
    slides = pd.DataFrame(
        {
            "slide_id": [f"digits-{bag:04d}" for bag in range(len(owner))],
            "patient_id": [f"patient-{patient:03d}" for patient in owner],
        }
    ).join(labels.iloc[owner].reset_index(drop=True).astype(float))
    return DigitBags(features, digits, _truth(digits, slides), slides)


def images_by_digit() -> list[NDArray[np.float32]]:
    """Images [n, 64] of each digit, pixels from 0 to 1."""
    data, target = _optdigits()
    pixels = (data / 16).astype(np.float32)
    return [pixels[target == digit] for digit in range(10)]


def draw_images(digits: NDArray[np.int64], images: list[NDArray[np.float32]], rng: Generator) -> NDArray[np.float32]:
    """An image [S, 36, 64] of each of the digits [S, 36]."""
    pools = [[images[digit][rng.integers(len(images[digit]))] for digit in bag] for bag in digits]
    return np.asarray(pools, dtype=np.float32)


def _optdigits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Pixels [1797, 64] from 0 to 16, and the digits; every worker needs them, and importing scikit-learn takes it a second."""
    found = importlib.util.find_spec("sklearn")  # finds the package without importing it
    file = Path(*(found.submodule_search_locations or ()), "datasets", "data", "digits.csv.gz") if found else Path()
    if file.is_file():
        table = np.loadtxt(file, delimiter=",")
        return table[:, :-1], table[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits  # a release that keeps the file elsewhere

    source = load_digits()
    return source.data, source.target


def _patient_labels(rng: Generator) -> pd.DataFrame:
    """Labels [P, 10], every prevalence met exactly but the conjunctions', which follow."""
    factor = rng.standard_normal(PATIENTS)
    labels = {}
    for task, presence in PRESENCE.items():
        own = np.sqrt(1 - presence.loading**2) * rng.standard_normal(PATIENTS)
        labels[task] = _top(presence.loading * factor + own, presence.prevalence)
    for task, (first, second) in CONJUNCTIONS.items():
        labels[task] = labels[first] & labels[second]
    for task, prevalence in {"many_3": 0.60, "block_1": 0.50}.items():
        labels[task] = _top(rng.random(PATIENTS), prevalence)
    labels[CONTROL] = _unrelated(np.stack(list(labels.values())), rng)
    return pd.DataFrame(labels)[list(TASKS)]


def _unrelated(others: NDArray[np.bool_], rng: Generator) -> NDArray[np.bool_]:
    """Coin tosses that correlate least with the other tasks [T, P], of many: else chance would lend the control signal."""
    tosses = np.stack([_top(rng.random(PATIENTS), 0.40) for _ in range(2000)])
    correlation = np.corrcoef(others, tosses)[: len(others), len(others) :]
    return np.asarray(tosses[np.abs(correlation).max(axis=0).argmin()])


def _top(score: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
    """True for the highest `share` of the scores."""
    return np.asarray(score >= np.sort(score)[-round(share * len(score))])


def _lay_out(labels: Mapping[Hashable, bool], rng: Generator) -> NDArray[np.int64]:
    """Which digit each raster place of a bag shows, [36]."""
    ones = _block(rng) if labels["block_1"] else _apart(rng)
    witnesses = [p.digit for task, p in PRESENCE.items() if labels[task] for _ in range(p.witnesses)]
    share = SHARE_OF_3[bool(labels["many_3"])]
    others = [digit for digit in BACKGROUND if digit != 3]
    rest = PATCHES - len(ones) - len(witnesses)
    n_threes = round(share * rest)
    background = [3] * n_threes + rng.choice(others, size=rest - n_threes).tolist()
    raster = np.full(PATCHES, 1)
    raster[np.setdiff1d(np.arange(PATCHES), ones)] = rng.permutation(witnesses + background)
    return raster


def _block(rng: Generator) -> NDArray[np.int64]:
    """Places of a 2 × 2 block."""
    row, column = rng.integers(GRID - 1, size=2)
    return np.array(
        [row * GRID + column, row * GRID + column + 1, (row + 1) * GRID + column, (row + 1) * GRID + column + 1]
    )


def _apart(rng: Generator) -> NDArray[np.int64]:
    """Four places of which no two touch, not even at a corner."""
    while True:
        places = rng.choice(PATCHES, size=4, replace=False)
        rows, columns = places // GRID, places % GRID
        distance = np.maximum(abs(rows[:, None] - rows), abs(columns[:, None] - columns))
        if (distance + 9 * np.eye(4)).min() > 1:
            return places


def _truth(digits: NDArray[np.int64], slides: pd.DataFrame) -> NDArray[np.bool_]:
    """Patches that carry each task's evidence, [S, 36, 10]; none for the control and for scattered 1s."""
    shows = {digit: digits == digit for digit in range(10)}
    evidence = {task: shows[presence.digit] for task, presence in PRESENCE.items()}
    evidence |= {task: evidence[first] | evidence[second] for task, (first, second) in CONJUNCTIONS.items()}
    evidence["many_3"] = shows[3]
    evidence["block_1"] = shows[1] & (slides["block_1"].to_numpy() == 1)[:, None]
    evidence[CONTROL] = np.zeros_like(shows[0])
    return np.stack([evidence[task] for task in TASKS], axis=-1)


def fingerprint_of(bags: DigitBags) -> str:
    """Hash of features, slides and labels."""
    digest = hashlib.sha256(bags.features.tobytes())
    digest.update(bags.slides.to_csv(index=False).encode())
    return digest.hexdigest()


def bag_loader(bags: DigitBags) -> Callable[[str], Bag]:
    """Function that gives the bag of a slide id."""
    row_of = {slide: row for row, slide in enumerate(bags.slides["slide_id"])}
    patients = bags.slides["patient_id"].tolist()
    places = np.stack([np.arange(PATCHES) % GRID, np.arange(PATCHES) // GRID], axis=1) * PATCH_SIZE
    coords = torch.from_numpy(places)

    def load(slide_id: str) -> Bag:
        if slide_id not in row_of:
            first, *_, last = row_of
            raise DataError(f"there is no slide '{slide_id}'. The slides are {first} to {last}.")
        row = row_of[slide_id]
        return Bag(
            features=torch.from_numpy(bags.features[row]),
            slide_id=slide_id,
            patient_id=patients[row],
            coords=coords,
            patch_size=PATCH_SIZE,
            instance_labels=torch.from_numpy(bags.truth[row]),
        )

    return load


def digits_cohort(data_root: Path | None = None, *, allow_missing: bool = False) -> Cohort:
    """The embedded cohort, in memory; it needs no data and misses none."""
    bags = make_digits()
    return Cohort(
        name="digits",
        slides=bags.slides,
        tasks=TASKS,
        in_features=bags.features.shape[-1],
        fingerprint=fingerprint_of(bags),
        load=bag_loader(bags),
        n_folds=3,
        control_tasks=(CONTROL,),
        model_defaults=MODEL_DEFAULTS,
        trainer_defaults=TRAINER_DEFAULTS,
        tuned=read_tuned(TUNED),
    )


catalogue(
    Dataset(
        name="digits",
        description="embedded: real handwritten digits as bags on a raster, nothing to download",
        n_slides=N_BAGS,
        n_patients=PATIENTS,
        tasks=TASKS,
        splits="kfold",
        load=digits_cohort,
    )
)
