"""Flags that several commands share, and the configuration that they make."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from milbench.errors import UsageError

if TYPE_CHECKING:
    from milbench.runs.config import RunConfig

PLAN_FLAGS = (
    "models", "datasets", "cohorts", "data_root", "protocol", "splits", "plugins", "run", "tasks", "precision",
)  # fmt: skip

LONGEST_NUMBER = 30
"""Digits of a fold or seed. More cannot be meant, and Python refuses to read some thousands."""

TUNING_FLAGS = {
    "tune": "configurations", "tune_per": "per", "tune_halving": "halving", "tune_seed": "seed", "tune_test": "test",
}  # fmt: skip

ENGINE_FLAGS = (
    "kind", "workers", "threads", "device", "gpus", "per_gpu", "address", "shard", "trial_timeout", "max_failures", "stack",
    "memory", "cuda_graphs",
)  # fmt: skip


def add_engine_flags(parser: argparse.ArgumentParser, *, shard: bool = True) -> None:
    """Put on `parser` where trials run, and by how many workers."""
    engine = add_place_flags(parser, "where trials run (docs/scaling.md)", shard=shard)
    engine.add_argument(
        "--stack",
        metavar="{auto,on,off}",
        help="train trials that differ in their task only (in a search: or in rates) as one: on, off, auto = where that is faster (default)",
    )
    engine.add_argument(
        "--memory",
        metavar="SIZE",
        help="memory that all workers of a machine (slurm: of a job) may use together, such as 16GB (default: 40 %% of what is free)",
    )
    engine.add_argument(
        "--cuda-graphs",
        action="store_true",
        default=None,
        help="on a GPU, replay steps and validations as CUDA graphs, of stacks too; no GPU has run this yet (docs/speed.md)",
    )
    engine.add_argument(
        "--trial-timeout",
        type=float,
        metavar="SECONDS",
        help="if a trial takes longer, stop it and record it as failed; n trials that run together may take n times as long",
    )
    engine.add_argument(
        "--max-failures",
        type=int,
        metavar="N",
        help="if the first N trials of a model on a dataset fail, skip its others there",
    )


def add_place_flags(parser: argparse.ArgumentParser, title: str, *, shard: bool = True) -> argparse._ArgumentGroup:
    """The group of flags on `parser` that name the engine, its workers and devices."""
    engine = parser.add_argument_group(title)
    engine.add_argument("--engine", metavar="NAME", dest="kind", help="loky = processes here (default), dask, slurm")
    engine.add_argument(
        "--workers", type=int, help="processes, with slurm of each job (default 0: one per core on a CPU, one on a GPU)"
    )
    engine.add_argument(
        "--threads", type=int, help="threads in each process (default 1; changes the last digits on a CPU)"
    )
    engine.add_argument("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1 (default auto)")
    engine.add_argument(
        "--gpus", metavar="WHICH", help="all, how many (2) or which (0,1; the first alone: '0,'): one worker per GPU"
    )
    engine.add_argument("--per-gpu", type=int, metavar="N", help="workers on each of --gpus (default 1)")
    engine.add_argument("--address", metavar="URL", help="dask scheduler (default: a cluster of processes here)")
    if shard:
        engine.add_argument(
            "--shard", metavar="I/N", help="only this part of the plan, such as 2/4; see `milbench merge`"
        )
    return engine


def add_what_flags(parser: argparse.ArgumentParser) -> None:
    """Put on `parser` what is compared."""
    what = parser.add_argument_group("what to compare")
    what.add_argument(
        "--models",
        nargs="+",
        metavar="NAME",
        help="names, patterns or groups: study, single, multi, plugins, all (default study, and plugins if any)",
    )
    what.add_argument(
        "--datasets", nargs="+", metavar="NAME", help="names or patterns such as 'tcga-*' (default digits)"
    )
    what.add_argument(
        "--cohort", nargs="+", metavar="PATH", dest="cohorts", help="your own cohorts: folders or YAML files"
    )
    what.add_argument("--data-root", metavar="FOLDER", help="where the datasets' data lie (default: $MILBENCH_DATA)")
    what.add_argument(
        "--protocol",
        metavar="{m4,official,tuned}",
        help="m4 = one recipe for all models (default), official = each model's own, tuned = m4 with --tune 24",
    )
    add_tuning_flags(what)
    what.add_argument("--splits", metavar="NAME|PATH", help="kfold, m4, site or a path (default: the cohort's)")
    what.add_argument(
        "--tasks",
        nargs="+",
        metavar="NAME",
        help="names or patterns of tasks; endpoints = all of a TCGA cohort (default: all of each cohort except endpoints)",
    )
    what.add_argument("--folds", nargs="+", metavar="N", help="folds such as 0 1 or 0-4 (default: the cohort's)")
    what.add_argument("--seeds", nargs="+", metavar="N", help="one trial per seed (default 42)")
    add_precision_flag(what)
    what.add_argument(
        "--plugin", nargs="+", metavar="FILE", dest="plugins", help="Python files that register models or datasets"
    )
    what.add_argument(
        "--allow-missing", action="store_true", help="skip slides without features or label, and count them"
    )
    what.add_argument("--config", type=Path, metavar="FILE", help="YAML with the same settings; flags win over it")
    what.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="assignments",
                      help="any setting, such as trainer.epochs=2 or model.m4.experts=3")  # fmt: skip


def add_tuning_flags(group: argparse._ActionsContainer) -> None:
    """Put on `group` how settings are chosen."""
    group.add_argument(
        "--tune",
        type=int,
        metavar="N",
        help="first try N configurations of each model, the same N for all; validation chooses (docs/tuning.md)",
    )
    group.add_argument(
        "--tune-per",
        metavar="{model,task}",
        help="choose for all tasks of a model together (default), or for each task of a single-task model",
    )
    group.add_argument(
        "--tune-halving",
        action="store_true",
        default=None,
        help="train most configurations for part of the epochs only, and the best third for longer",
    )
    group.add_argument("--tune-seed", type=int, metavar="SEED", help="draw other configurations (default 0)")
    group.add_argument(
        "--tune-test",
        action="store_true",
        default=None,
        help="predict the test side of all configurations, for curves in the report; no choice reads it",
    )


def add_plugin_flag(parser: argparse.ArgumentParser, registered: str) -> None:
    """Put `--plugin` on `parser`.

    Parameters
    ----------
    registered : what the files register, in words.
    """
    parser.add_argument(
        "--plugin",
        nargs="+",
        default=[],
        metavar="FILE",
        dest="plugins",
        help=f"Python files that register {registered}",
    )


def plugins_of(options: argparse.Namespace) -> tuple[Path, ...]:
    """The plug-in files, under paths that hold in any folder."""
    return tuple(Path(plugin).absolute() for plugin in options.plugins)


def add_precision_flag(group: argparse._ActionsContainer) -> None:
    """Put on `group` the precision of matrix products."""
    group.add_argument(
        "--precision",
        metavar="{float32,tf32,bf16}",
        help="of matrix products: float32 (default), tf32 (NVIDIA GPUs) or bf16; softmax and loss stay float32",
    )


def config_of(options: argparse.Namespace) -> RunConfig:
    """Settings of --config, --set and flags, later ones win.

    Raises
    ------
    UsageError : a fold or seed is no number; what `make_config` refuses.
    """
    from milbench.runs.config import make_config

    flags: dict[str, Any] = _given(options, PLAN_FLAGS)
    flags |= {key: _numbers(key, words) for key in ("folds", "seeds") if (words := getattr(options, key)) is not None}
    flags |= {"allow_missing": True} if options.allow_missing else {}
    flags |= {"keep_weights": False} if getattr(options, "no_weights", False) else {}
    flags["engine"] = engine_of(options)
    flags["tuning"] = {
        key: value for flag, key in TUNING_FLAGS.items() if (value := getattr(options, flag, None)) is not None
    }
    flags["tracking"] = {"enabled": False} if getattr(options, "no_tracking", False) else {}
    if getattr(options, "tracking_uri", None):
        flags["tracking"]["uri"] = options.tracking_uri
    return make_config(options.config, options.assignments, flags)


def engine_of(options: argparse.Namespace) -> dict[str, Any]:
    """Settings of the section `engine` that flags give."""
    return _given(options, ENGINE_FLAGS)


def _given(options: argparse.Namespace, names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(options, name, None)) is not None}


def _numbers(key: str, words: Sequence[str]) -> list[int]:
    """Numbers from words such as "0", "0,2" or "0-4"."""
    from milbench.runs.config import MOST_NUMBERS

    numbers: list[int] = []
    for word in ",".join(words).split(","):
        first, dash, last = word.partition("-")
        is_number = all(part.isdecimal() and len(part) <= LONGEST_NUMBER for part in (first, last) if part)
        if not first or (dash and not last) or not is_number or int(last or first) < int(first):
            raise UsageError(f"--{key} takes numbers or ranges such as 0 2 or 0-4; got '{word}'.")
        wanted = range(int(first), int(last or first) + 1)
        if wanted.stop - wanted.start + len(numbers) > MOST_NUMBERS:
            raise UsageError(f"--{key} {word} asks for more than {MOST_NUMBERS:,} numbers. Name fewer.")
        numbers += wanted
    return numbers
