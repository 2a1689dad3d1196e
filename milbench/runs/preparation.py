"""Preparation: configuration -> models, cohorts, audited splits, trials. Nothing is trained or written."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from milbench.cohorts.cohort import Cohort
from milbench.cohorts.feature_facts import feature_facts
from milbench.cohorts.optional import GROUP
from milbench.cohorts.record import ContentRecord, read_record, remembered_beside, see
from milbench.datasets import all_datasets
from milbench.datasets.source import CohortSource
from milbench.engines.shards import Shard, groups_of_shard, parse_shard
from milbench.errors import UsageError, unknown_name
from milbench.intake.findings import findings_of, refuse_errors, subject_of
from milbench.labels.finding import WARNING, Finding, some
from milbench.machine.sizes import bytes_text, parse_bytes
from milbench.models import MILModel
from milbench.names import folder_name
from milbench.registry import load_models, select, select_models
from milbench.runs.config import SAME_WITHIN_A_RUN, RunConfig
from milbench.splits import N_FOLDS, Audit, Split, audit, make_split
from milbench.store.feature_facts import Facts
from milbench.store.foreign_folder import refuse_foreign_folder
from milbench.store.identity import canonical_json
from milbench.store.run import Run, holds_run, open_run
from milbench.store.run_folder import CONFIG, FEATURES, SPLITS, TUNING, UNTUNED
from milbench.training.precision import PRECISIONS
from milbench.trials.fits import Fits
from milbench.trials.plan import Trial, make_plan, together
from milbench.trials.request import PlanRequest

RUNS = Path("runs")

LONGEST_NAME, LONGEST_PATH = 255, 3000
"""Bytes that file systems allow in a name, and in a path with room for the folders of trials (Linux: 4096)."""

LEAST_MEMORY = 100_000_000
"""The least that `--memory` may name: less means that the unit was forgotten."""

MOST_MEMORY = 10**15
"""The most: a million gigabytes mean a slip of the keyboard."""


@dataclass(frozen=True)
class Entry:
    """One cohort of the benchmark with its split.

    Attributes
    ----------
    record : what its feature files hold; None = it has none, or they are read when the run folder is first written.
    features : what its feature files tell of their making, of `milbench.cohorts.feature_facts`; empty = there are no files.
    """

    source: CohortSource
    cohort: Cohort
    split: Split
    audit: Audit
    record: ContentRecord | None = None
    findings: Sequence[Finding] = ()
    features: Facts = field(default_factory=dict)

    @property
    def notes(self) -> list[str]:
        """What a run folder and its report keep of how the cohort was read, and of everything that was found."""
        return [*map(str, self.findings), *self.cohort.notes, *self.split.notes]


@dataclass(frozen=True)
class Benchmark:
    """All that is decided before anything trains.

    If there is a `shard`, `trials` are its part of `whole_plan`. `request` is what the plan was made from.
    """

    config: RunConfig
    models: Mapping[str, type[MILModel]]
    known_models: Sequence[str]
    entries: Sequence[Entry]
    trials: Sequence[Trial]
    run: Run
    request: PlanRequest
    shard: Shard | None = None
    whole_plan: Sequence[Trial] = ()

    def unfinished_trials(self) -> list[Trial]:
        """Trials without an intact result in the run folder."""
        return [trial for trial in self.trials if self.run.trial(trial.id) is None]


def prepare(config: RunConfig, *, verify_features: bool = False) -> Benchmark:
    """Models, cohorts, audited splits and trials of `config`; nothing is written.

    Parameters
    ----------
    verify_features : read all feature files whole, also those that look as they did when they were read before.

    Raises
    ------
    MilbenchError : unknown names, unusable data, a split that leaks.
    """
    if config.precision not in PRECISIONS:
        raise unknown_name("precision", config.precision, PRECISIONS)
    memory_bytes(config)  # an impossible size is refused before anything is read
    plugins = tuple(Path(plugin) for plugin in config.plugins)
    known = load_models(plugins)
    models = {name: known[name] for name in select_models(config.models, known, plugins)}
    cohorts = [(source, source.load()) for source in _sources(config)]
    _refuse_two_of_one_name([cohort.name for _, cohort in cohorts])
    run = Run(run_folder(config, [cohort.name for _, cohort in cohorts]))
    refuse_foreign_folder(run.path)  # before anything is read
    config = _with_kept_split(config, run)
    entries = [entry_of(source, cohort, config.splits) for source, cohort in cohorts]
    entries = [_seen_before(entry, run, verify_features=verify_features) for entry in entries]
    entries = of_tasks(entries, config.tasks)
    entries = [examined(entry) for entry in entries]
    fits = [Fits(entry.cohort, entry.split) for entry in entries]
    benchmark = _planned(Benchmark(config, models, list(known), entries, (), run, plan_request(config)), fits)
    entries = [
        replace(entry, findings=(*each.left_out(), *not_searched(benchmark, entry), *entry.findings, *each.notes()))
        for entry, each in zip(entries, fits, strict=True)
    ]
    if not benchmark.whole_plan:
        raise UsageError(
            "\n".join(["nothing is left to train.", *(str(each) for fit in fits for each in fit.left_out())])
        )
    return replace(benchmark, entries=entries)


def _planned(benchmark: Benchmark, fits: Sequence[Fits]) -> Benchmark:
    """The benchmark with the trials that its request asks for; `fits` are those of its entries."""
    plan = make_plan(benchmark.models, fits, benchmark.request)
    shard = parse_shard(benchmark.config.engine.shard)
    trials = [trial for group in groups_of_shard(together(plan), shard) for trial in group] if shard else plan
    return replace(benchmark, trials=trials, shard=shard, whole_plan=plan)


def moved_to(benchmark: Benchmark, folder: Path, config: RunConfig, request: PlanRequest) -> Benchmark:
    """A benchmark of the same models and cohorts in another folder, with a plan of its own; cohorts are not read again."""
    run = Run(folder)
    entries = [_seen_before(replace(entry, record=None), run, verify_features=False) for entry in benchmark.entries]
    fits = [Fits(entry.cohort, entry.split) for entry in entries]
    return _planned(replace(benchmark, config=config, entries=entries, run=run, request=request), fits)


def _seen_before(entry: Entry, run: Run, *, verify_features: bool) -> Entry:
    """The entry under the fingerprint that its files have in a run folder that knows them."""
    path = run.content_file(entry.cohort.name)
    entry = replace(entry, source=replace(entry.source, record=path.absolute()))
    is_known = path.exists() or verify_features
    return with_record(entry, run, verify_features=verify_features) if is_known else entry


def with_record(entry: Entry, run: Run, *, verify_features: bool = False) -> Entry:
    """The entry with what its feature files hold; those that no run folder beside this one knows are read whole."""
    if not entry.cohort.files or entry.record is not None:
        return entry
    path = run.content_file(entry.cohort.name)
    before = read_record(path)
    beside = (folder / path.name for folder in _folders_of_features(run.path))
    known = {} if verify_features else {**remembered_beside(beside), **before.slides}
    seen = see(entry.cohort, before, known)
    return replace(entry, cohort=seen.cohort, record=seen.record)


def _folders_of_features(run: Path) -> list[Path]:
    """Where runs beside this one, and the searches within them, keep what they know of feature files."""
    runs = run.parent.parent if run.name in (TUNING, UNTUNED) else run.parent
    return [*runs.glob(f"*/{FEATURES}"), *runs.glob(f"*/{TUNING}/{FEATURES}")]


def plan_request(config: RunConfig) -> PlanRequest:
    """What the configuration asks for, beyond models and cohorts."""
    return PlanRequest(
        config.protocol, config.folds or None, config.seeds, config.precision, config.trainer, config.model,
        follows_cohorts=config.tuning.cohort and not config.tuning.configurations,
    )  # fmt: skip


def _sources(config: RunConfig) -> list[CohortSource]:
    root = Path(config.data_root) if config.data_root else None
    plugins = tuple(Path(plugin).absolute() for plugin in config.plugins)
    named = [
        CohortSource(name=name, data_root=root, allow_missing=config.allow_missing, plugins=plugins)
        for name in (select("dataset", config.datasets, all_datasets(plugins)) if config.datasets else [])
    ]
    own = [CohortSource(path=Path(path).absolute(), allow_missing=config.allow_missing) for path in config.cohorts]
    return named + own


def _with_kept_split(config: RunConfig, run: Run) -> RunConfig:
    """The configuration with the run's own split tables, if an earlier command on the folder chose to keep them."""
    if config.splits or not holds_run(run.path):
        return config
    former = str(run.config.get("splits") or "")
    return replace(config, splits=former) if former and is_own_split(former, run.path) else config


def follows_tuned(benchmark: Benchmark) -> bool:
    """Whether settings that an earlier search chose for a cohort are those of the benchmark's trials."""
    request = benchmark.request
    return request.follows_cohorts and request.protocol == "m4" and request.search is None and not request.chosen


def not_searched(benchmark: Benchmark, entry: Entry) -> list[Finding]:
    """Models with the settings for all beside models whose settings an earlier search chose for the cohort."""
    tuned = entry.cohort.tuned
    if tuned is None or not follows_tuned(benchmark):
        return []
    left = [name for name in benchmark.models if name not in tuned.models]
    if not left or len(left) == len(benchmark.models):
        return []
    return [
        Finding(
            WARNING,
            f"{some(left, 12)}: no search chose their settings, as one did for the other models. The comparison favours the others",
            "Search all with `milbench tune`, or give all the same settings with --set tuning.cohort=false.",
        )
    ]


def is_own_split(splits: str, folder: Path) -> bool:
    """Whether `--splits` names a table, or a folder of tables, that the run itself has written, or the parts of a tuned run."""
    whole = _whole_of(folder)
    places = (folder, whole, whole / TUNING, whole / UNTUNED)
    return any(Path(splits).absolute().is_relative_to((place / SPLITS).absolute()) for place in places)


def _whole_of(folder: Path) -> Path:
    """The tuned run that a folder is a part of, or the folder itself."""
    return folder.parent if folder.name in (TUNING, UNTUNED) else folder


def entry_of(source: CohortSource, cohort: Cohort, splits: str) -> Entry:
    """The cohort with its audited split; `splits` is empty where the cohort's own protocol is meant.

    Raises
    ------
    MilbenchError : a split that cannot be made, or that leaks.
    """
    protocol = _own_table(splits, cohort.name) or splits or cohort.splits
    n_folds = max(N_FOLDS, cohort.n_folds)
    split = make_split(cohort.patients_from, cohort.tasks, protocol, n_folds=n_folds, endpoints=cohort.endpoints)
    return Entry(source, cohort, split, audit(split, cohort.slides, cohort.tasks, cohort.endpoints, cohort.bag))


def _own_table(splits: str, cohort: str) -> str:
    """The cohort's table in a folder of tables that a run has written; "" if `splits` is no such folder."""
    table = Path(splits) / f"{cohort}.csv"
    return str(table) if splits and table.is_file() else ""


def examined(entry: Entry) -> Entry:
    """The entry with all that `milbench data check` finds but what only values tell; raises `DataError` for an error."""
    subject = subject_of(entry.cohort, entry.split, entry.audit)
    findings = findings_of(subject)
    refuse_errors(entry.cohort.name, findings)
    return replace(entry, findings=findings, features=feature_facts(subject.headers.values()))


def of_tasks(entries: Sequence[Entry], asked: Sequence[str]) -> list[Entry]:
    """The entries with the tasks that were asked for; splits and fingerprints stay those of all tasks.

    So the tasks that are asked for change neither a single-task trial's identity nor its test patients. Optional tasks
    join only by their names, or as the group of all.
    """
    if not asked:
        return list(entries)
    cohorts = [entry.cohort for entry in entries]
    usual = dict.fromkeys(task for cohort in cohorts for task in cohort.tasks)
    optional = list(dict.fromkeys(task for cohort in cohorts for task in cohort.optional))
    chosen = select("task", asked, usual, {GROUP: optional} if optional else {})
    return [_restricted(entry, chosen) for entry in entries]


def _restricted(entry: Entry, chosen: Sequence[str]) -> Entry:
    cohort = entry.cohort
    tasks = tuple(task for task in cohort.every_task if task in chosen)
    if not tasks:
        raise UsageError(
            f"cohort '{cohort.name}' has none of the tasks {', '.join(chosen)}. Its own: {', '.join(cohort.every_task)}."
        )
    controls = tuple(task for task in cohort.control_tasks if task in tasks)
    notes = tuple(note for task in tasks if task in cohort.optional for note in cohort.optional[task].notes)
    restricted = replace(cohort, tasks=tasks, control_tasks=controls, notes=(*cohort.notes, *notes))
    return replace(
        entry, cohort=restricted, audit=audit(entry.split, cohort.slides, tasks, cohort.endpoints, cohort.bag)
    )


def _refuse_two_of_one_name(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two cohorts are called '{name}'. Give one of them another `name:` in its cohort.yaml.")


def run_folder(config: RunConfig, cohorts: Sequence[str]) -> Path:
    """The run's folder: as asked for, or named after what is compared.

    The same command always finds its folder again. Settings that change every number go into the
    name as a hash, so that a table never mixes them; models, folds and seeds may be added later.
    """
    if config.run:
        return _nameable(Path(config.run))
    if own := _folder_of_own_split(config.splits):
        return own
    defaults = RunConfig()
    values = {**vars(config), "tuning": asdict(config.tuning)}
    changed = {key: values[key] for key in SAME_WITHIN_A_RUN if getattr(config, key) != getattr(defaults, key)}
    name = folder_name("+".join(cohorts)) if len(cohorts) <= 3 else f"{cohorts[0]}+{len(cohorts) - 1}-more"
    if changed or len(cohorts) > 3:
        name += "-" + hashlib.sha256(canonical_json([changed, list(cohorts)]).encode()).hexdigest()[:6]
    shard = parse_shard(config.engine.shard)
    return RUNS / (f"{name}-shard-{shard.file_name}" if shard else name)


def is_part_of_tuned(folder: Path) -> bool:
    """Whether the folder holds the search of a tuned run, or its trainings to compare, and not a run of its own."""
    if folder.name == UNTUNED:
        return holds_run(folder.parent / TUNING)
    return folder.name == TUNING and holds_run(folder) and open_run(folder).is_search


def _nameable(folder: Path) -> Path:
    """The folder, if a file system can have it and the trials below it."""
    longest = max((len(os.fsencode(part)) for part in folder.parts), default=0)
    if longest > LONGEST_NAME or len(os.fsencode(folder.absolute())) > LONGEST_PATH:
        raise UsageError(
            f"--run {str(folder)[:40]}... has {len(str(folder))} characters. A folder's name may have {LONGEST_NAME} bytes, "
            f"its whole path {LONGEST_PATH}. Choose a shorter one."
        )
    return folder


def _folder_of_own_split(splits: str) -> Path | None:
    """The run folder whose own split tables `--splits` names: they are named to go on in that folder."""
    folders = [folder for folder in Path(splits).parents if (folder / CONFIG).is_file()] if splits else []
    if not folders or not is_own_split(splits, folders[0]):
        return None
    return folders[0].parent if is_part_of_tuned(folders[0]) else folders[0]


def memory_bytes(config: RunConfig) -> int:
    """Bytes that `--memory` names; 0 if it is not given.

    Raises
    ------
    UsageError : it names no size, or less than any run needs.
    """
    if not config.engine.memory:
        return 0
    stated = parse_bytes(config.engine.memory)
    if stated < LEAST_MEMORY:
        raise UsageError(
            f"--memory {config.engine.memory} is {bytes_text(stated)}, and a worker needs 0.5 GB before it reads a bag. "
            "Write a unit after the number, such as 16GB."
        )
    if stated > MOST_MEMORY:
        raise UsageError(f"--memory {config.engine.memory} is more than any machine has. Write a size such as 16GB.")
    return stated
