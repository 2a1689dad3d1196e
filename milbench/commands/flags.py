"""Flags of every command, and the configuration that they make. Imports nothing heavy: `--help` must be quick."""

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

ENGINE_FLAGS = (
    "kind", "workers", "threads", "device", "gpus", "per_gpu", "address", "shard", "trial_timeout", "max_failures", "stack",
    "memory",
)  # fmt: skip


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """`run`: what to compare, where and how."""
    _add_what_flags(parser)
    running = parser.add_argument_group("running")
    running.add_argument(
        "--run", metavar="FOLDER", help="run folder (default: runs/ and a name made from what is compared)"
    )
    _add_engine_flags(parser)
    running.add_argument("--no-weights", action="store_true", help="do not keep the best weights")
    running.add_argument("--no-tracking", action="store_true", help="do not log to MLflow")
    running.add_argument("--tracking-uri", metavar="URI", help="MLflow server or database (default: runs/mlflow.db)")
    running.add_argument(
        "--resume", action="store_true", help="go on where the run stopped (always so; finished trials are kept)"
    )


def _add_engine_flags(parser: argparse.ArgumentParser, *, shard: bool = True) -> None:
    engine = parser.add_argument_group("where it runs (docs/scaling.md)")
    engine.add_argument("--engine", metavar="NAME", dest="kind", help="loky = processes here (default), dask, slurm")
    engine.add_argument(
        "--workers", type=int, help="processes, with slurm of each job (default 0: one a core on a CPU, one on a GPU)"
    )
    engine.add_argument(
        "--threads", type=int, help="threads in each process (default 1; changes the last digits on a CPU)"
    )
    engine.add_argument("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1 (default auto)")
    engine.add_argument(
        "--gpus", metavar="WHICH", help="all, how many (2) or which (0,1; the first alone: '0,'): one worker a GPU"
    )
    engine.add_argument("--per-gpu", type=int, metavar="N", help="workers on each of --gpus (default 1)")
    engine.add_argument("--address", metavar="URL", help="dask scheduler (default: a cluster of processes here)")
    if shard:
        engine.add_argument(
            "--shard", metavar="I/N", help="only this part of the plan, such as 2/4; see `milbench merge`"
        )
    engine.add_argument(
        "--stack",
        metavar="{auto,on,off}",
        help="trials that differ in their task only are trained as one: on, off, auto = where it pays (default)",
    )
    engine.add_argument(
        "--memory",
        metavar="SIZE",
        help="what all workers of a machine (slurm: of a job) may use together, such as 16GB (default: 40 %% of what is free)",
    )
    engine.add_argument(
        "--trial-timeout",
        type=float,
        metavar="SECONDS",
        help="stop a trial that takes longer and record it as failed; n trials that run together have n times as long",
    )
    engine.add_argument(
        "--max-failures", type=int, metavar="N", help="give a model up when its first N trials on a dataset fail"
    )


def add_plan_flags(parser: argparse.ArgumentParser) -> None:
    """`plan`: those of `run`, whose command line it explains."""
    add_run_flags(parser)


def _add_what_flags(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what to compare")
    what.add_argument("--models", nargs="+", metavar="NAME", help="names, patterns or `all` (default all)")
    what.add_argument(
        "--datasets", nargs="+", metavar="NAME", help="names or patterns such as 'tcga-*' (default digits)"
    )
    what.add_argument(
        "--cohort", nargs="+", metavar="PATH", dest="cohorts", help="your own cohorts: folders or YAML files"
    )
    what.add_argument("--data-root", metavar="FOLDER", help="where the datasets' data lie (default: $MILBENCH_DATA)")
    what.add_argument(
        "--protocol",
        metavar="{m4,official}",
        help="m4 = one recipe for all models (default), official = each model's own",
    )
    what.add_argument("--splits", metavar="NAME|PATH", help="kfold, m4, site or a path (default: the cohort's)")
    what.add_argument(
        "--tasks", nargs="+", metavar="NAME", help="names or patterns of tasks (default: all that each cohort has)"
    )
    what.add_argument("--folds", nargs="+", metavar="N", help="folds such as 0 1 or 0-4 (default: the cohort's)")
    what.add_argument("--seeds", nargs="+", metavar="N", help="one trial a seed (default 42)")
    _add_precision_flag(what)
    what.add_argument("--plugin", nargs="+", metavar="FILE", dest="plugins", help="Python files that register models")
    what.add_argument(
        "--allow-missing", action="store_true", help="skip slides without features or label, and count them"
    )
    what.add_argument("--config", type=Path, metavar="FILE", help="YAML with the same settings; flags win over it")
    what.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="assignments",
                      help="any setting, such as trainer.epochs=2 or model.m4.experts=3")  # fmt: skip


def add_reproduce_flags(parser: argparse.ArgumentParser) -> None:
    """`reproduce`: parts of the study."""
    parser.add_argument(
        "parts", nargs="+", metavar="PART", help="m4 (all), table1, table2, table3, fig3, fig4a, fig4b, fig5"
    )
    parser.add_argument("--datasets", nargs="+", metavar="NAME", help="names or patterns (default: the five tcga-*)")
    parser.add_argument("--data-root", metavar="FOLDER", help="where the datasets' data lie (default: $MILBENCH_DATA)")
    parser.add_argument("--epochs", type=int, metavar="N", help="epochs of every training (default: the recipe's)")
    parser.add_argument(
        "--dry-run", action="store_true", help="say what each part needs and what is done; train nothing"
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where to write (default: reports/m4)")
    _add_precision_flag(parser)
    parser.add_argument("--no-tracking", action="store_true", help="do not log to MLflow")
    parser.add_argument(
        "--allow-missing", action="store_true", help="skip slides without features or label, and count them"
    )
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="assignments",
                        help="settings of the engine, such as engine.slurm.jobs=16")  # fmt: skip
    _add_engine_flags(parser, shard=False)


def _add_precision_flag(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--precision",
        metavar="{float32,tf32,bf16}",
        help="float32 (default), tf32 (NVIDIA GPUs) or bf16: of matrix products; softmax, loss stay float32",
    )


def add_status_flags(parser: argparse.ArgumentParser) -> None:
    """`status`: which run."""
    parser.add_argument("run", nargs="?", type=Path, metavar="RUN", help="run folder (default: the newest in runs/)")
    parser.add_argument(
        "--watch", action="store_true", help="look again every few seconds, until Ctrl-C or all is done"
    )


def add_merge_flags(parser: argparse.ArgumentParser) -> None:
    """`merge`: which run folders."""
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the whole; may hold a part of it already")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders of the same study")
    parser.add_argument("--allow-missing-shards", action="store_true", help="merge what there is")


def add_report_flags(parser: argparse.ArgumentParser) -> None:
    """`report`: which runs, and what the report says."""
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="run folders (default: the newest in runs/)")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="where to write (default: reports/<name of the run>)"
    )
    parser.add_argument(
        "--reference", metavar="MODEL", help="the model that the others are compared with (default amil)"
    )
    parser.add_argument("--draws", type=int, metavar="N", help="bootstrap draws of an interval (default 10000)")
    parser.add_argument(
        "--complete-cases", action="store_true", help="leave tasks that not all models finished out of means"
    )
    parser.add_argument("--no-tracking", action="store_true", help="do not put the report's files into MLflow")


def add_heatmap_flags(parser: argparse.ArgumentParser) -> None:
    """`heatmap`: see `milbench.commands.heatmap`."""
    from milbench.commands.heatmap import add_flags

    add_flags(parser)


def add_ui_flags(parser: argparse.ArgumentParser) -> None:
    """`ui`: which database."""
    parser.add_argument("--uri", help="MLflow database or server (default: sqlite database in runs/)")
    parser.add_argument("--port", type=int, default=5000, help="port on the loopback address (default 5000)")


def add_track_flags(parser: argparse.ArgumentParser) -> None:
    """`track`: which runs, and where to."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders")
    parser.add_argument("--uri", help="MLflow server or database (default: sqlite database in runs/)")
    parser.add_argument(
        "--report", type=Path, metavar="FOLDER", help="a report of the runs: its files become artifacts"
    )


def add_models_flags(parser: argparse.ArgumentParser) -> None:
    """`models`: plug-ins."""
    parser.add_argument(
        "--plugin", nargs="+", default=[], metavar="FILE", dest="plugins", help="Python files that register models"
    )


def add_datasets_flags(parser: argparse.ArgumentParser) -> None:
    """`datasets`: none."""


def add_data_flags(parser: argparse.ArgumentParser) -> None:
    """`data`: see `milbench.commands.data`."""
    from milbench.commands.data import add_commands

    add_commands(parser)


# ---- configuration -------------------------------------------------------------------------------


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
    numbers: list[int] = []
    for word in ",".join(words).split(","):
        first, dash, last = word.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or int(last or first) < int(first):
            raise UsageError(f"--{key} takes numbers or ranges such as 0 2 or 0-4; got '{word}'.")
        numbers += range(int(first), int(last or first) + 1)
    return numbers
