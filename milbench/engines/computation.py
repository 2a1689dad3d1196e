"""Computation: groups of jobs -> prepared, trained, predicted and written; what failed in a stack is tried again alone."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from time import perf_counter
from typing import NamedTuple

import pandas as pd
import torch

from milbench.engines.cost import energy_counter, energy_limit, energy_used
from milbench.engines.culprit import culprit_of
from milbench.engines.model_memory import neighbours_asked_for
from milbench.engines.predictions import stored_predictions, training_risks
from milbench.engines.prepared_group import PreparedGroup, prepare_group
from milbench.engines.record import Measured, failure_record, trial_record
from milbench.engines.shared_costs import SharedCosts
from milbench.errors import DataError, MilbenchError, StoreError
from milbench.kernels import check_kernels, kernels
from milbench.machine.peak_memory import forget_peak
from milbench.process.must_return import DidNotReturnError
from milbench.serving.cohort_features import CohortFeatures, features_of
from milbench.store.files import writing
from milbench.store.run import Run
from milbench.store.run_writing import clear_failure, write_failure, write_trial
from milbench.training.cuda_recorder import CudaRecorder, check_cuda_graphs
from milbench.training.evaluation import Predictions
from milbench.training.precision import check_precision, float32_products
from milbench.training.selection import Epoch, TrialProgress
from milbench.training.step_graphs import StepGraphs, graphs_record
from milbench.training.trainer import predict_all, train
from milbench.trials.job import Job, JobGroup, Status
from milbench.trials.plan import Trial


class RolePredictions(NamedTuple):
    """What the chosen weights of one group say of the slides of each role.

    The training side is predicted only where survival is learned, for the risk that parts its patients. A trial of a
    search leaves the test side alone.
    """

    val: Predictions
    test: Predictions | None
    train: Predictions | None


def compute(run: Run, groups: Sequence[JobGroup]) -> Iterator[Status]:
    """Status of each job when its result is on disk; the groups train in one pass over the data.

    If the model of a stack raises, its trials are tried again one by one. Only trials that also fail alone are recorded
    as failed.
    """
    job, started = groups[0].first, perf_counter()
    set_up_process(job)
    with float32_products(job.trial.precision), kernels(job.kernels):
        cohort_features = features_of(job)
        cohort_features.features.ask_for_layouts(neighbours_asked_for(groups, cohort_features.cohort.in_features))
        prepared, stranded = yield from _prepare(run, groups, cohort_features)
        loaded = perf_counter()
        joules = _train(run, prepared, cohort_features, job)
        name_culprits(prepared, cohort_features)
        predictions = predict(prepared, cohort_features)
        costs = SharedCosts(prepared, started=started, loaded=loaded, ended=perf_counter(), joules=joules)
        for each, said in zip(prepared, predictions, strict=True):
            if said is not None:
                yield from _write(run, each, said, costs.of_one_trial(each, said.test or said.val))
    raised = [each for each in prepared if each.learner.error is not None]
    for each in raised:
        if each.n_together == 1:
            yield failed(run, each.group.first, each.learner.error or MilbenchError("unknown"))
    for job in [*stranded, *(job for each in raised if each.n_together > 1 for job in each.group)]:
        yield from compute(run, [JobGroup((replace(job, trains_in_stack=False, others=()),))])


def set_up_process(job: Job) -> None:
    """Set threads, and make a GPU's arithmetic repeatable; a CPU's is repeatable at a fixed number of threads.

    Raises
    ------
    DataError : the job's device lacks its precision or CUDA graphs, or this Python the package of its kernels.
    """
    device = torch.device(job.device)
    torch.set_num_threads(job.threads)
    forget_peak()
    try:
        check_precision(job.trial.precision, device)
        check_kernels(job.kernels, device.type)
        check_cuda_graphs(device, wanted=job.cuda_graphs)
    except MilbenchError as error:
        raise DataError(str(error)) from error  # every trial of the run would fail alike: stop it
    if device.type == "cuda":
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        torch.cuda.reset_peak_memory_stats(device)


def _prepare(
    run: Run, groups: Sequence[JobGroup], cohort_features: CohortFeatures
) -> Generator[Status, None, tuple[list[PreparedGroup], list[Job]]]:
    """The groups that can train, and jobs to be tried alone: those of several folds, one of which cannot. Others are failed."""
    prepared: list[PreparedGroup] = []
    stranded: list[Job] = []
    for group in groups:
        try:
            prepared += prepare_group(run, group, cohort_features)
        except (DataError, StoreError):
            raise
        except (Exception, SystemExit, DidNotReturnError) as error:  # noqa: BLE001 - whatever a model does is a result, not a crash
            if group.has_folds:
                stranded += group
            else:
                yield from (failed(run, job, error) for job in group)
    return prepared, stranded


def _train(run: Run, prepared: Sequence[PreparedGroup], cohort_features: CohortFeatures, job: Job) -> float | None:
    """Joules that the device used to train all groups; None if it does not tell. Checkpoints are written on the way."""
    device, last = torch.device(job.device), perf_counter()

    def write_checkpoints_if_due() -> None:
        nonlocal last
        if perf_counter() - last < job.checkpoint_seconds:
            return
        with writing(run.path):
            for each in prepared:
                if each.learner.error is None:
                    each.save()
        last = perf_counter()

    joules = energy_counter(device)
    if prepared:
        train(
            [each.learner for each in prepared],
            cohort_features.cohort.slides["slide_id"].tolist(),
            cohort_features.features,
            seed=job.trial.seed,
            after_epoch=write_checkpoints_if_due,
            stacks=list(dict.fromkeys(each.lanes.stack for each in prepared if each.lanes is not None)),
            graphs=StepGraphs(CudaRecorder(device)) if job.cuda_graphs else None,
        )
    return energy_used(joules, energy_counter(device), wraps_at=energy_limit(device))


def name_culprits(prepared: Sequence[PreparedGroup], cohort_features: CohortFeatures) -> None:
    """Say of trainings that diverged which slide's values are absurd, if one's are, rather than to blame the rate."""
    for each in prepared:
        failed_trials = [progress for progress in each.learner.progress if progress.failure]
        if not failed_trials:
            continue
        bags = each.data.slides["train"]["slide_id"]
        told = culprit_of(cohort_features.cohort, bags, lambda bag: cohort_features.features[bag].features)
        for progress in failed_trials if told else ():
            progress.failure = f"{told} {progress.failure[:1].upper()}{progress.failure[1:]}"


def predict(prepared: Sequence[PreparedGroup], cohort_features: CohortFeatures) -> list[RolePredictions | None]:
    """Predictions of each group; None if its model raised. Only now are test slides read, and by no search."""
    val = _of_role(prepared, "val", prepared, cohort_features)
    test = _of_role(prepared, "test", [each for each in prepared if _predicts_test(each)], cohort_features)
    train = _of_role(prepared, "train", [each for each in prepared if _learns_survival(each)], cohort_features)
    return [
        None if on_val is None or each.learner.error else RolePredictions(on_val, on_test, on_train)
        for each, on_val, on_test, on_train in zip(prepared, val, test, train, strict=True)
    ]


def _of_role(
    prepared: Sequence[PreparedGroup], role: str, asked: Sequence[PreparedGroup], cohort_features: CohortFeatures
) -> list[Predictions | None]:
    """Predictions of one role by each group; None if it is not among those that are asked, or its model raised."""
    slides = cohort_features.cohort.slides["slide_id"].tolist()
    sides = [each.data.sides[role] for each in asked]
    said = predict_all([each.learner for each in asked], sides, slides, cohort_features.features)
    by_learner = {each.learner: predictions for each, predictions in zip(asked, said, strict=True)}
    return [by_learner.get(each.learner) for each in prepared]


def _predicts_test(prepared: PreparedGroup) -> bool:
    return any("test" in trial.roles for trial in prepared.trials)


def _learns_survival(prepared: PreparedGroup) -> bool:
    return any(endpoint.kind == "survival" for trial in prepared.trials for endpoint in trial.endpoints)


def _write(run: Run, prepared: PreparedGroup, said: RolePredictions, measured: Measured) -> Iterator[Status]:
    """Status of each job of the group, its result or its failure on disk; the checkpoint is deleted."""
    for job in prepared.group:
        number = prepared.trials.index(job.trial)
        failure = prepared.learner.progress[number].failure
        if failure:
            yield failed(run, job, MilbenchError(failure))
        else:
            _write_trial(run, job, prepared, number, said, measured)
            yield Status(job, "done", measured.wall_seconds)
    if prepared.is_last:
        prepared.checkpoint.unlink(missing_ok=True)


def _write_trial(
    run: Run, job: Job, prepared: PreparedGroup, number: int, said: RolePredictions, measured: Measured
) -> None:
    """Put the result of the group's trial of this number on disk."""
    trial, data, learner = job.trial, prepared.data, prepared.learner
    progress, model = learner.progress[number], learner.model_of(number)
    n_slides = {role: len(slides) for role, slides in data.slides.items() if role in ("train", *trial.roles)}
    risks = training_risks(trial, data.sides["train"], number, said.train) if said.train else {}
    info = trial_record(
        trial, model, progress, measured,
        n_slides=n_slides, training_risks=risks, device=learner.device, threads=job.threads, kernels=job.kernels,
        cuda_graphs=graphs_record(learner.weights, prepared.lanes.stack.replays if prepared.lanes else None),
    )  # fmt: skip
    table, history = predictions_of(prepared, number, said), history_of(trial, progress)
    weights = {name: tensor.cpu().numpy() for name, tensor in model.state_dict().items()}
    write_trial(run, trial.id, info, table, history, weights if job.keep_weights else None)
    clear_failure(run, trial.key)


def predictions_of(prepared: PreparedGroup, number: int, said: RolePredictions) -> pd.DataFrame:
    """The stored table of the group's trial of this number, of the sides that it predicts."""
    trial, data = prepared.trials[number], prepared.data
    tables = [
        stored_predictions(role, data.slides[role], trial, data.sides[role], number, seen)
        for role, seen in (("val", said.val), ("test", said.test))
        if role in trial.roles and seen is not None
    ]
    return pd.concat(tables)


def history_of(trial: Trial, progress: TrialProgress) -> pd.DataFrame:
    """The stored history, one row per epoch."""
    history = pd.DataFrame(progress.history, columns=list(Epoch._fields))
    return history.rename(columns={"val_auroc": "val_score"}) if trial.endpoints else history


def failed(run: Run, job: Job, error: BaseException) -> Status:
    """Failed status of the job, its failure on disk."""
    write_failure(run, job.trial.key, failure_record(job.trial, error))
    return Status(job, "failed", 0.0, f"{type(error).__name__}: {error}")
