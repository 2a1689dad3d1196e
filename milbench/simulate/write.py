"""Write: a cohort on disk, one slide in memory at a time; the same command goes on where it stopped.

::

    OUT/features/{slide_id}.h5   features [N, D], coords [N, 2], instance_labels uint8 [N, T]
    OUT/labels.csv               case_id, slide_id, one column per task; two of a survival time
    OUT/carriers.csv             slide_id, site, and who shows each task's phenotype, or which level of it
    OUT/truth.json               design, seed, oracle AUC of every binary task, optimum of every other
    OUT/cohort.yaml              for `milbench run --cohort OUT`; written last
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from milbench.endpoints.endpoint import BINARY
from milbench.errors import StoreError, UsageError
from milbench.simulate.carriers import draw_carriers
from milbench.simulate.design import PRESETS, Design, checked_for_tasks
from milbench.simulate.kinds import KindTask
from milbench.simulate.labels import LabelTable, make_labels
from milbench.simulate.oracle import Oracle, state_oracle
from milbench.simulate.signals import Directions, Slide, draw_directions, paint, shift_of
from milbench.simulate.tissue import PATCH_SIZE, Tissue, grow_tissue
from milbench.stats.metric import METRICS
from milbench.store.csv_files import exact_csv

VERSION = 1
"""Version of the generator: raise it when the same design and seed make other bytes."""

STREAM_SLIDE = 6
TRUTH = "truth.json"


class Known(NamedTuple):
    """The best score that any model can have of a task, and what the best answers reach on the labels as drawn."""

    best: float
    here: float


@dataclass(frozen=True, eq=False)
class Simulation:
    """All of a cohort but its patches.

    Attributes
    ----------
    design, seed : what it is made from.
    labels : who is positive. carriers : [S, T], who shows it, or which level. oracle : the best AUC that can be had of
        binary tasks, [B] each. optima : the best score of every other task, and what it is on the labels as drawn.
    world : seed of the signals' directions, which cohorts of one world share; None = the cohort's own seed.
    """

    design: Design
    seed: int
    labels: LabelTable
    carriers: NDArray[np.int64]
    oracle: Oracle
    directions: Directions
    optima: Mapping[str, Known]
    world: int | None = None

    @property
    def binary_tasks(self) -> list[str]:
        """Tasks that `oracle` speaks of."""
        return [self.labels.tasks[place] for place in self.labels.binary]

    def slide(self, index: int) -> tuple[Tissue, Slide]:
        """Tissue and patches of the slide in row `index`, whichever were made before."""
        row = self.labels.slides.iloc[index]
        rng = np.random.default_rng([self.seed, STREAM_SLIDE, index])
        tissue = grow_tissue(self.design, rng)
        shift = shift_of(self.design, self.seed, site=_number(row["site"]), patient=_number(row["patient_id"]))
        return tissue, paint(self.design, self.directions, tissue, self.carriers[index], self._load(index), shift, rng)

    def _load(self, index: int) -> float:
        shown = self.carriers.astype(np.float64)
        for task in self.labels.kinds:
            shown[:, task.place] = task.full[self.carriers[:, task.place]]
        counts = shown.sum(axis=1)
        return float((counts[index] - counts.mean()) / max(counts.std(), 1e-9))


@dataclass(frozen=True)
class Written:
    """What lies on disk: slides made now and kept from before, patches and bytes of all."""

    made: int
    kept: int
    patches: int
    bytes: int


def simulate(design: Design, seed: int, labels: Path | None = None, world: int | None = None) -> Simulation:
    """A cohort's labels, carriers and oracle; patches are made when asked for.

    Parameters
    ----------
    world : seed of another cohort whose directions this one has; patients and sites are its own all the same.
    """
    world = None if world == seed else world
    table = make_labels(design, seed, labels)
    if world is not None and labels is None:
        table = replace(table, slides=_with_own_names(table.slides, seed))
    checked_for_tasks(design, len(table.tasks))
    carriers = draw_carriers(design, table, seed)
    targets = table.slides[list(table.tasks)].to_numpy(dtype=np.float64)[:, table.binary]
    shown = carriers[:, table.binary]
    oracle = state_oracle(table.population, targets, shown, penetrance=design.penetrance, leak=design.leak)
    directions = draw_directions(design, len(table.tasks), seed if world is None else world, table.kinds)
    return Simulation(design, seed, table, carriers, oracle, directions, _optima(table, carriers), world)


def _with_own_names(slides: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The slides with the seed in all names: no patient, slide or site of a world is called as one of another cohort."""
    names = {column: f"seed{seed}-" + slides[column] for column in ("slide_id", "patient_id", "site")}
    return slides.assign(**names)


def _optima(table: LabelTable, carriers: NDArray[np.int64]) -> dict[str, Known]:
    """By task that is not binary."""
    slides, patients = table.slides, table.slides["patient_id"].to_numpy()
    return {
        task.name: Known(
            task.optimum().value, task.reached(slides[task.name].to_numpy(), carriers[:, task.place], patients)
        )
        for task in table.kinds
    }


def write_cohort(simulation: Simulation, out: Path, advance: Callable[[], None] = lambda: None) -> Written:
    """The cohort below `out`; slides that are there already are kept. `advance` is called after each slide.

    Raises
    ------
    UsageError : `out` holds another cohort or other files.
    StoreError : `out` cannot be written.
    """
    truth = _truth(simulation)
    try:
        _refuse_another(out, truth)
        return _write(simulation, truth, out, advance)
    except OSError as error:
        raise StoreError(
            f"{out} cannot be written ({error}). Free space or fix its rights, then give the same command again. Finished slides are kept."
        ) from error


def _write(simulation: Simulation, truth: dict[str, Any], out: Path, advance: Callable[[], None]) -> Written:
    features = out / "features"
    features.mkdir(parents=True, exist_ok=True)
    _replace(out / TRUTH, (json.dumps(truth, indent=2) + "\n").encode())
    made = patches = size = 0
    slides = simulation.labels.slides["slide_id"]
    for index, slide_id in enumerate(slides):
        path = features / f"{slide_id}.h5"
        if not path.exists():  # a file appears whole or not at all
            _write_slide(path, *simulation.slide(index))
            made += 1
        patches += _patches_in(path)
        size += path.stat().st_size
        advance()
    _write_tables(simulation, out)
    return Written(made, len(slides) - made, patches, size)


def _refuse_another(out: Path, truth: dict[str, Any]) -> None:
    if not out.exists() or not any(out.iterdir()):
        return
    there = out / TRUTH
    if not there.is_file():
        raise UsageError(f"{out} holds files, but no {TRUTH} of a simulated cohort. Choose an empty folder with --out.")
    if _identity(there.read_text(encoding="utf-8")) != _identity(json.dumps(truth)):
        raise UsageError(
            f"{out} holds a cohort of another design, seed, world or label table (see its {TRUTH}). "
            "Choose another folder with --out, or delete this one."
        )


def _identity(text: str) -> dict[str, Any] | None:
    """What decides a cohort's bytes, of a truth.json; None if it is none."""
    try:
        truth = json.loads(text)
        decides = {key: truth[key] for key in ("generator_version", "seed", "design", "labels_sha256")}
        return {**decides, "world_seed": truth.get("world_seed")}
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _truth(simulation: Simulation) -> dict[str, Any]:
    oracle = simulation.oracle
    tasks = simulation.binary_tasks
    slides = simulation.labels.slides
    others = {task.name: _truth_of(simulation, task) for task in simulation.labels.kinds}
    return {
        "generator_version": VERSION,
        "seed": simulation.seed,
        **({} if simulation.world is None else {"world_seed": simulation.world}),
        "design": simulation.design.as_dict(),
        "labels_sha256": hashlib.sha256(exact_csv(slides).encode()).hexdigest(),
        "n_slides": len(slides),
        "oracle_auc": {
            name: {**dict(zip(tasks, map(_finite, values), strict=True)), "macro": _finite(float(np.nanmean(values)))}
            for name, values in oracle._asdict().items()
            if not np.isnan(values).all()
        },
        "prevalence": {task: _finite(slides[task].mean()) for task in tasks},
        **({"optimum": others} if others else {}),
    }


def _truth_of(simulation: Simulation, task: KindTask) -> dict[str, Any]:
    """What is known of a task that is not binary."""
    labels, known = simulation.labels.slides[task.name].to_numpy(), simulation.optima[task.name]
    facts: dict[str, Any] = {
        "kind": task.endpoint.kind,
        "metric": METRICS[task.endpoint.kind].name,
        "best": _finite(known.best),
        "as_drawn": _finite(known.here),
    }
    if task.endpoint.classes:
        shares = [float((labels == place).mean()) for place in range(len(task.endpoint.classes))]
        facts["shares"] = dict(zip(task.endpoint.classes, map(_finite, shares), strict=True))
    if task.endpoint.kind == "survival":
        facts["censored"] = _finite(float((labels < 0).mean()))
    return facts


def _finite(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)


def _write_slide(path: Path, tissue: Tissue, slide: Slide) -> None:
    # made in memory: HDF5 ends the process if it cannot write, as where the disk is full
    with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
        file.create_dataset("features", data=slide.features)
        file.create_dataset("coords", data=tissue.coords()).attrs["patch_size_level0"] = PATCH_SIZE
        file.create_dataset("instance_labels", data=slide.truth.astype(np.uint8))
        file.flush()
        content = file.id.get_file_image()
    _replace(path, content)


def _patches_in(path: Path) -> int:
    try:
        with h5py.File(path) as file:
            return int(file["features"].shape[0])
    except (OSError, KeyError) as error:
        raise UsageError(
            f"{path} is no slide of this cohort, or damaged. Delete it, then give the same command again."
        ) from error


def _write_tables(simulation: Simulation, out: Path) -> None:
    slides, tasks = simulation.labels.slides, list(simulation.labels.tasks)
    labels = _label_columns(simulation).rename(columns={"patient_id": "case_id"})
    shown = pd.DataFrame(simulation.carriers.astype(int), columns=tasks)
    carriers = pd.concat([slides[["slide_id", "site"]], shown], axis=1)
    _replace(out / "labels.csv", exact_csv(labels).encode())
    _replace(out / "carriers.csv", exact_csv(carriers).encode())
    _replace(out / "cohort.yaml", yaml.safe_dump(_cohort_file(simulation), sort_keys=False).encode())


def _label_columns(simulation: Simulation) -> pd.DataFrame:
    """patient_id, slide_id and the columns of every task."""
    slides, others = simulation.labels.slides, {task.name: task for task in simulation.labels.kinds}
    columns = [
        others[name].cells(slides[name].to_numpy()) if name in others else slides[[name]].astype("Int64")
        for name in simulation.labels.tasks
    ]
    return pd.concat([slides[["patient_id", "slide_id"]], *columns], axis=1)


def _cohort_file(simulation: Simulation) -> dict[str, Any]:
    preset = PRESETS[simulation.design.preset]
    others = {task.name: task.declared() for task in simulation.labels.kinds}
    tasks = {name: others.get(name, BINARY.kind) for name in simulation.labels.tasks}
    return {
        "name": f"sim-{simulation.design.preset}-{simulation.seed}",
        "labels": "labels.csv",
        "features": "features",
        **({"tasks": tasks} if others else {}),
        "model": dict(preset.model),
        "trainer": dict(preset.trainer),
    }


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(content)
    temporary.replace(path)


def _number(name: str) -> int:
    """A number that belongs to a name, whatever other names there are."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
