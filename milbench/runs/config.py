"""Configuration: YAML, --set and flags -> one frozen `RunConfig`, checked once, saved with the run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from milbench.errors import UsageError, unknown_name
from milbench.kernels import KERNELS
from milbench.names import PLUGINS, STUDY
from milbench.runs.models_of_then import with_models_of_then
from milbench.special_files import refuse_special
from milbench.store.plain_yaml import plain_yaml


@dataclass(frozen=True)
class EngineConfig:
    """Where and how trials run; never part of a trial's identity.

    Attributes
    ----------
    kind : "loky" (processes on this machine), "dask" or "slurm".
    workers : processes; 0 = one per core on a CPU, one on a GPU, one per place with `gpus`.
    threads : threads in each process; on a CPU, more than one may change the last digits of results.
    device : "auto", "cpu", "cuda" or "cuda:1".
    gpus : "all", how many ("2") or which ("0,1"): each worker sees only its own GPU; "" = no placement.
    per_gpu : workers on each of these GPUs.
    address : address of a running dask scheduler; "" = a cluster of `workers` processes on this machine.
    slurm : settings of SLURM jobs; see docs/scaling.md.
    shard : "2/4" = the second of four parts of the plan; "" = the whole.
    trial_timeout : seconds after which a trial counts as hanging; 0 = never.
    max_failures : if this many trials of a model on a dataset fail before any succeeds, the rest is skipped; 0 = never.
    stack : whether trials that differ in their task only, or in a search in rates too, take their steps together: "on",
        "off", or "auto" = if it is faster.
    memory : what all workers of a machine may use together, such as "16GB"; "" = what is free.
    checkpoint_seconds : shortest time between two checkpoints of trials that are not done.
    kernels : "fused" = models may use fused GPU kernels in place of several operations; "plain" = they may not.
    cuda_graphs : whether models replay steps and validations as CUDA graphs.
    """

    kind: str = "loky"
    workers: int = 0
    threads: int = 1
    device: str = "auto"
    gpus: str = ""
    per_gpu: int = 1
    address: str = ""
    slurm: Mapping[str, Any] = field(default_factory=dict)
    shard: str = ""
    trial_timeout: float = 0.0
    max_failures: int = 0
    stack: str = "auto"
    memory: str = ""
    checkpoint_seconds: float = 60.0
    kernels: str = "plain"
    cuda_graphs: bool = False


@dataclass(frozen=True)
class TuningConfig:
    """How settings are chosen before the trainings that the tables show; see docs/tuning.md.

    Attributes
    ----------
    configurations : how many each model tries on each cohort, the recipe's own among them; 0 = models are not tuned.
    per : "model" (one configuration for all tasks of a model) or "task" (one for each task of a single-task model).
    seed : of the draws.
    halving : successive halving: most configurations are trained for a ninth or a third of the epochs only.
    test : predict the test side of every configuration, for the test curves of the report. No choice reads it.
    space : what is drawn, by model or "*", where it should be other than what models declare.
    cohort : follow the settings that a cohort keeps of an earlier search (`tuned:` in cohort.yaml).
    compare : train with the recipe's own settings too, so that the report shows what tuning changed.
    """

    configurations: int = 0
    per: str = "model"
    seed: int = 0
    halving: bool = False
    test: bool = False
    space: Mapping[str, Any] = field(default_factory=dict)
    cohort: bool = True
    compare: bool = True


@dataclass(frozen=True)
class TrackingConfig:
    """Where finished trials are logged in MLflow; `uri` empty = runs/mlflow.db."""

    enabled: bool = True
    uri: str = ""


@dataclass(frozen=True)
class RunConfig:
    """All settings of one benchmark.

    Attributes
    ----------
    models : names, shell-style patterns or groups: "study" (the nine of the M4 study), "single", "multi" (by what a
        model learns), "plugins" (those of `plugins`), "all". If none is given, "study", and "plugins" if there are any.
    datasets : names or shell-style patterns; "all".
    cohorts : folders or YAML files of the user's own cohorts; if given, the default dataset is left out.
    data_root : folder with the data of catalogue datasets.
    protocol : "m4" (one recipe for all), "official" (each model's own) or "tuned" (m4, with each model's settings chosen
        among as many configurations).
    splits : "" = as each cohort says; "kfold", "m4", "site" or a saved split table.
    folds : folds to run; empty = each cohort's default.
    tasks : names or patterns of the tasks to learn and compare; empty = all tasks of each cohort. Splits stay those of
        all tasks. Optional tasks join by their names, or all of them as "endpoints".
    seeds : one trial per seed.
    precision : arithmetic of the matrix products: "float32", "tf32" (NVIDIA GPUs) or "bf16".
    trainer : settings that override every recipe.
    model : constructor arguments by model name, "*" for all.
    plugins : Python files that register further models.
    run : run folder; empty = a folder in runs/, named after what is compared.
    tuning : how settings are chosen before the trainings that the tables show.
    keep_weights, allow_missing, engine, tracking : see docs/configuration.md.
    """

    models: tuple[str, ...] = (STUDY,)
    datasets: tuple[str, ...] = ()
    cohorts: tuple[str, ...] = ()
    data_root: str = ""
    protocol: str = "m4"
    splits: str = ""
    tasks: tuple[str, ...] = ()
    folds: tuple[int, ...] = ()
    seeds: tuple[int, ...] = (42,)
    precision: str = "float32"
    trainer: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    plugins: tuple[str, ...] = ()
    run: str = ""
    keep_weights: bool = True
    allow_missing: bool = False
    tuning: TuningConfig = field(default_factory=TuningConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def as_dict(self) -> dict[str, Any]:
        """Plain values in the order of the fields, for run.yaml."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


DEFAULT_DATASET = "digits"
SECTIONS: dict[str, type[EngineConfig] | type[TrackingConfig] | type[TuningConfig]] = {
    "tuning": TuningConfig, "engine": EngineConfig, "tracking": TrackingConfig,
}  # fmt: skip
USUAL_CONFIGURATIONS = 24
"""Of `--protocol tuned`, which names no number."""


LOWEST = {
    "workers": 0, "threads": 1, "per_gpu": 1, "trial_timeout": 0, "max_failures": 0, "checkpoint_seconds": 0,
    "configurations": 0, "seed": 0,
}  # fmt: skip
HIGHEST = {
    "workers": 1024, "threads": 1024, "per_gpu": 128, "trial_timeout": 1e9, "max_failures": 1e9, "checkpoint_seconds": 1e9,
    "configurations": 10_000, "seed": 2**63 - 1,
}  # fmt: skip
"""More is a slip of the keyboard: the largest machines have some hundred cores, and a billion seconds are 31 years."""

SEEDS = range(-(2**63), 2**63)
"""What torch takes."""

MOST_NUMBERS = 10_000
"""Folds, or seeds, that one command may name."""

ENGINES = ("loky", "dask", "slurm")
STACKS = ("auto", "on", "off")
TUNED_PER = ("model", "task")

SAME_WITHIN_A_RUN = ("protocol", "splits", "tasks", "precision", "trainer", "model", "allow_missing", "tuning")
"""Settings that must be the same for all trials of a run folder, since its tables compare them."""


class Difference(NamedTuple):
    """A setting in which two runs may not differ but do, with its value in each."""

    mine: Any
    theirs: Any


def different_settings(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Difference]:
    """Settings in which two runs may not differ but do, by name. If an older run.yaml lacks a setting, its default counts."""
    here, there = _by_name(mine), _by_name(theirs)
    return {
        key: Difference(here.get(key), there.get(key))
        for key in dict.fromkeys((*here, *there))
        if _compared(key, here.get(key)) != _compared(key, there.get(key))
    }


def _by_name(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that must be the same within a run; each setting of tuning by a name of its own."""
    defaults = RunConfig().as_dict()
    found = {key: config.get(key, defaults[key]) for key in SAME_WITHIN_A_RUN}
    tuning = {**defaults["tuning"], **(found.pop("tuning") or {})}
    return {**found, **{f"tuning.{key}": value for key, value in tuning.items()}}


def _compared(name: str, value: Any) -> str:
    """What two runs must have alike of a setting, as text.

    More configurations leave the earlier ones as they are, and trainings to compare lie in a folder of their own.
    """
    if name == "tuning.configurations":
        value = bool(value)
    return "" if name == "tuning.compare" else json.dumps(value, sort_keys=True)


def make_config(path: Path | None, assignments: Iterable[str], flags: Mapping[str, Any]) -> RunConfig:
    """The configuration: defaults < YAML file < --set < flags. If data_root is empty, MILBENCH_DATA is used.

    Parameters
    ----------
    path : a YAML file with the keys of `RunConfig`, or a run.yaml.
    assignments : "trainer.epochs=2" and the like; values are YAML.
    flags : values of the command-line flags that were given, by key, nested for sections.

    Raises
    ------
    UsageError : unreadable file, unknown key (with the nearest known one), value of the wrong type.
    """
    values: dict[str, Any] = {}
    if path is not None:
        _merge(values, _from_yaml(path))
    for assignment in assignments:
        _merge(values, _from_assignment(assignment))
    _merge(values, flags)
    if values.get("models") is None:  # whoever names a plug-in wants its models to run
        values["models"] = [STUDY, PLUGINS] if values.get("plugins") else [STUDY]
    if not values.get("datasets") and not values.get("cohorts"):
        values["datasets"] = [DEFAULT_DATASET]
    values["data_root"] = values.get("data_root") or os.environ.get("MILBENCH_DATA", "")
    return _checked(values)


def _from_yaml(path: Path) -> dict[str, Any]:
    refuse_special(path, UsageError)
    try:
        values = plain_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}. Check the path after --config.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid YAML: {error}.") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UsageError(f"{path} holds a {type(values).__name__}; expected `key: value` lines.")
    return with_models_of_then({str(key): value for key, value in values.items()}, path)


def _from_assignment(assignment: str) -> dict[str, Any]:
    key, equals, text = assignment.partition("=")
    if not equals or not key:
        raise UsageError(f"--set takes key=value, for example trainer.epochs=2; got '{assignment}'.")
    try:
        # SLURM has its own notations; YAML would read a time such as 24:00:00 as a number of seconds
        value: Any = text if key.startswith("engine.slurm.") else plain_yaml(text)
    except yaml.YAMLError as error:
        raise UsageError(f"--set {assignment}: the value is not valid YAML ({error}).") from error
    if isinstance(value, str) and not key.startswith("engine."):  # YAML reads 1e-3 as text, because it wants 1.0e-3
        with suppress(ValueError):
            value = float(value)
    for part in reversed(key.split(".")):
        value = {part: value}
    return dict(value)


def _merge(into: dict[str, Any], new: Mapping[str, Any], within: str = "") -> None:
    """Put `new` into `into`, section by section; a section never takes the place of a value that is none unseen."""
    for key, value in new.items():
        name = f"{within}{key}"
        if not isinstance(value, Mapping):
            into[key] = value
        elif isinstance(into.get(key), dict):
            _merge(into[key], value, f"{name}.")
        elif into.get(key) is None:
            into[key] = dict(value)
        else:
            raise UsageError(f"{name} is {into[key]!r}; expected a section of `key: value` lines.")


def _refuse_what_is_no_setting(name: str, value: Any) -> None:
    """NaN, infinity and text that run.yaml could not hold are no settings, wherever they stand."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _refuse_what_is_no_setting(f"{name}.{key}" if name else str(key), inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _refuse_what_is_no_setting(name, inner)
    elif isinstance(value, str) and ("\0" in value or any("\ud800" <= sign <= "\udfff" for sign in value)):
        raise UsageError(f"{name} is {ascii(value)[:100]}, which is no text in UTF-8. Rename the file or folder.")
    elif isinstance(value, float) and not isfinite(value):
        raise UsageError(f"{name} is {value}; expected a finite number.")


def _checked(values: Mapping[str, Any]) -> RunConfig:
    known = {f.name for f in fields(RunConfig)}
    for key in values:
        if key not in known:
            raise unknown_name("configuration key", key, known)
    _refuse_what_is_no_setting("", values)
    sections = {key: _section(key, kind, values.get(key, {})) for key, kind in SECTIONS.items()}
    flat = {key: _value(key, value) for key, value in values.items() if key not in SECTIONS}
    return _with_protocol(RunConfig(**flat, **sections))


def _with_protocol(config: RunConfig) -> RunConfig:
    """The configuration with the study's recipe and the usual number of configurations, if its protocol is "tuned"."""
    if config.protocol != "tuned":
        return config
    tuning = replace(config.tuning, configurations=config.tuning.configurations or USUAL_CONFIGURATIONS)
    return replace(config, protocol="m4", tuning=tuning)


def _section(name: str, kind: type[Any], values: Any) -> Any:
    if not isinstance(values, Mapping):
        raise UsageError(
            f"{name} must be a section with keys {', '.join(f.name for f in fields(kind))}; got {values!r}."
        )
    for key in values:
        if key not in {f.name for f in fields(kind)}:
            raise unknown_name(f"key in section '{name}'", key, (f.name for f in fields(kind)))
    defaults = kind()
    return kind(**{key: _in_section(name, key, value, getattr(defaults, key)) for key, value in values.items()})


def _in_section(name: str, key: str, value: Any, default: Any) -> Any:
    """`value` as the type that the section's default has."""
    expected = type(default)
    if type(value) is bool and key == "stack":  # YAML reads an unquoted `on` as true
        value = "on" if value else "off"
    if type(value) is int and (expected is float or key in {"gpus", "memory"}):  # `trial_timeout: 60`, `gpus: 2`
        value = expected(value)
    if type(value) is not expected:
        raise UsageError(f"{name}.{key} is {value!r}; expected a value of type {expected.__name__}.")
    if key in LOWEST and value < LOWEST[key]:
        raise UsageError(f"{name}.{key} is {value}; the least is {LOWEST[key]}.")
    if key in HIGHEST and value > HIGHEST[key]:
        raise UsageError(f"{name}.{key} is {value}; the most is {HIGHEST[key]:g}.")
    if key == "kind" and value not in ENGINES:
        raise unknown_name("engine", value, ENGINES)
    if key == "stack" and value not in STACKS:
        raise unknown_name("value of engine.stack", value, STACKS)
    if key == "kernels" and value not in KERNELS:
        raise unknown_name("value of engine.kernels", value, KERNELS)
    if key == "per" and value not in TUNED_PER:
        raise unknown_name("value of tuning.per", value, TUNED_PER)
    return value


def _refuse_odd_numbers(key: str, items: Sequence[Any]) -> None:
    if key in {"folds", "seeds"} and len(items) > MOST_NUMBERS:
        raise UsageError(f"{key} names {len(items):,} numbers; the most is {MOST_NUMBERS:,}.")
    if key == "seeds" and (odd := [seed for seed in items if seed not in SEEDS]):
        raise UsageError(f"seeds holds {odd[0]}; a seed lies between -2^63 and 2^63 - 1.")


def _of_model(name: str, values: Any) -> Mapping[str, Any]:
    """Constructor arguments of one model; `model: {amil: }` gives none."""
    if values is not None and not isinstance(values, Mapping):
        raise UsageError(
            f"model.{name} is {values!r}; expected a section of its arguments, such as model: {{{name}: {{hidden: 256}}}}."
        )
    return {str(key): value for key, value in (values or {}).items()}


def _value(key: str, value: Any) -> Any:
    """`value` as the type that the field's default has."""
    default = getattr(RunConfig(), key)
    if value is None:
        return default
    if isinstance(default, tuple):
        items = value if isinstance(value, (list, tuple)) else [value]
        wanted = int if key in {"folds", "seeds"} else str
        if not all(type(item) is wanted for item in items):
            raise UsageError(f"{key} is {value!r}; expected {wanted.__name__} values.")
        _refuse_odd_numbers(key, items)
        return tuple(dict.fromkeys(items))  # each once: a trial that is planned twice would wait for itself
    if isinstance(default, dict):
        if not isinstance(value, Mapping):
            raise UsageError(f"{key} is {value!r}; expected a section of `key: value` lines.")
        return {str(k): _of_model(str(k), v) if key == "model" else v for k, v in value.items()}
    if type(value) is not type(default):
        raise UsageError(f"{key} is {value!r}; expected a value of type {type(default).__name__}.")
    return value
