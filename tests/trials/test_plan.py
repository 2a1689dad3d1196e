"""The plan: one grid, stable keys that cover all that decides a result and nothing else."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import pytest
from models_for_tests import Tiny, TinyMulti
from trial_for_tests import TRIAL

from milbench.cohorts.cohort import Cohort
from milbench.errors import UsageError
from milbench.search_space import Choice, Draw, SearchSpace
from milbench.splits import make_split
from milbench.store.identity import IDENTITY, recorded_key
from milbench.store.slot import slot_of, trial_id_of
from milbench.trials.arguments import constructor_arguments
from milbench.trials.fits import Fits
from milbench.trials.plan import Trial, make_plan, together
from milbench.trials.recipe import Recipe
from milbench.trials.request import Place, PlanRequest, Rung, Search

KEY = "f35fc578da0642d597b043b09dabaf628242fd88c005ba2a211bb3697fa3bc79"
"""If this changes, finished trials of every user are computed again: raise IDENTITY_FORMAT and say so in the CHANGELOG."""


def make_cohort() -> Cohort:
    labels = {"a": [0.0, 1.0] * 20, "b": [0.0, 0.0, 1.0, 1.0] * 10}
    slides = pd.DataFrame(
        {"slide_id": [f"s{i}" for i in range(40)], "patient_id": [f"p{i}" for i in range(40)], **labels}
    )
    return Cohort("toy", slides, ("a", "b"), 5, "f", lambda _: None, n_folds=3, trainer_defaults={"epochs": 2})


def plan(request: PlanRequest, **models: type) -> list[Trial]:
    cohort = make_cohort()
    return make_plan(models, [Fits(cohort, make_split(cohort.slides, cohort.tasks, "kfold"))], request)


def test_the_key_is_the_same_in_every_version_and_process() -> None:
    assert TRIAL.key == KEY
    code = "from trial_for_tests import TRIAL; print(TRIAL.key)"
    command = [sys.executable, "-c", code]
    path = ":".join(sys.path)
    for seed in ("1", "2"):
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": path}
        assert (
            subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip() == KEY
        )


def test_the_key_ignores_order_and_what_does_not_decide_the_result() -> None:
    assert replace(TRIAL, hyperparameters={"dropout": 0.1, "hidden": 8}).key == TRIAL.key
    assert replace(TRIAL, source_sha256="y").key == TRIAL.key


@pytest.mark.parametrize(
    "change",
    [
        {"tasks": ("b",)}, {"fold": 1}, {"seed": 43}, {"model": "other"}, {"model_version": 2}, {"fingerprint": "g"},
        {"split_sha256": "t"}, {"precision": "bf16"}, {"feature_scaling": "l2"}, {"hyperparameters": {"hidden": 9, "dropout": 0.1}},
        *({"recipe": replace(Recipe(), **{name: value})} for name, value in {
            "lr": 2e-4, "betas": (0.5, 0.9), "weight_decay": 0.0, "decay_vectors": False, "schedule": "constant",
            "lr_floor": 0.2, "milestones": (3,), "gamma": 0.5, "epochs": 33, "bags_per_step": 2, "select_by": "val_loss",
            "select_after": 0.5, "patience": 3, "clip_norm": 5.0, "optimizer": "lookahead_radam", "name": "official",
            "sampler": "balanced", "bag_patches": 2048, "label_smoothing": 0.1, "warmup": 0.5,
        }.items()),
    ],
)  # fmt: skip
def test_the_key_changes_with_all_that_decides_the_result(change: dict[str, object]) -> None:
    assert replace(TRIAL, **change).key != TRIAL.key


def test_every_setting_of_a_recipe_is_in_the_identity() -> None:
    assert set(TRIAL.identity()["recipe"]) == set(Recipe().as_dict())


def test_single_task_models_get_a_trial_a_task_and_multi_task_models_one() -> None:
    trials = plan(PlanRequest(seeds=(1, 2)), tiny=Tiny, tiny_multi=TinyMulti)
    count = {name: sum(trial.model == name for trial in trials) for name in ("tiny", "tiny_multi")}
    assert count == {"tiny": 2 * 3 * 2, "tiny_multi": 3 * 2}
    assert len({trial.id for trial in trials}) == len(trials)
    assert trials[0].model == "tiny_multi"


def test_a_default_and_the_same_value_given_explicitly_are_one_trial() -> None:
    explicit = PlanRequest(models={"tiny": {"hidden": 8}}, trainer={"epochs": 2})
    assert [t.key for t in plan(PlanRequest(), tiny=Tiny)] == [t.key for t in plan(explicit, tiny=Tiny)]


NEUTRAL = {
    "sampler": "shuffle", "bag_patches": None, "label_smoothing": 0, "warmup": 0, "class_weights": "none", "task_weights": "constant",
}  # fmt: skip


@pytest.mark.parametrize("setting", NEUTRAL)
def test_a_setting_that_came_later_is_no_part_of_the_identity_at_its_default(setting: str) -> None:
    explicit = plan(PlanRequest(trainer={setting: NEUTRAL[setting]}), tiny=Tiny)
    assert [t.key for t in plan(PlanRequest(), tiny=Tiny)] == [t.key for t in explicit]
    assert setting not in explicit[0].identity()["recipe"]


def test_trials_of_a_balanced_sampler_take_no_steps_together_since_labels_decide_their_draws() -> None:
    for sampler, size in (("shuffle", 2), ("balanced", 1)):
        groups = together(plan(PlanRequest(trainer={"sampler": sampler}), tiny=Tiny))
        assert {len(group) for group in groups} == {size}


def searched(n: int, trainer: dict[str, object], **draws: Draw) -> list[tuple[Trial, ...]]:
    """Stacks of tiny's one fold when so many configurations are tried, whose trainer settings are drawn."""
    search = Search([Rung({Place("toy", "tiny"): range(n)})], {"tiny": SearchSpace(draws, {})})
    fixed = {"hidden": 8, "dropout": 0.1}
    return together(plan(PlanRequest(folds=(0,), trainer=trainer, models={"tiny": fixed}, search=search), tiny=Tiny))


def numbers(stack: Sequence[Trial]) -> list[int]:
    return sorted({trial.search["configuration"] for trial in stack})


@pytest.mark.parametrize(
    ("n", "blocks"),
    [
        (8, [[*range(8)]]),
        (11, [[*range(8)], [8], [9], [10]]),
        (16, [[*range(8)], [*range(8, 16)]]),
    ],
)
def test_rates_of_a_search_share_a_stack_in_blocks_that_more_configurations_leave_as_they_are(
    n: int, blocks: list[list[int]]
) -> None:
    stacks = searched(n, {})
    assert [numbers(stack) for stack in stacks] == blocks
    assert all(len(stack) == 2 * len(numbers(stack)) for stack in stacks), "both tasks of each"
    assert all(len({trial.recipe.lr for trial in stack}) == len(numbers(stack)) for stack in stacks)


@pytest.mark.parametrize("settings", [{"sampler": "balanced"}, {"optimizer": "lookahead_radam"}])
def test_rates_of_a_search_share_no_stack_where_the_trainer_has_one_rate_for_all(settings: dict[str, object]) -> None:
    assert all(len(numbers(stack)) == 1 for stack in searched(8, settings))


def test_configurations_that_differ_in_more_than_rates_share_no_stack() -> None:
    stacks = searched(8, {}, clip_norm=Choice(1.0, 2.0))
    clipped = [{trial.recipe.clip_norm or 0.0 for trial in stack} for stack in stacks]
    assert sorted(map(sorted, clipped)) == [[0.0], [1.0], [2.0]]  # configuration 0 clips nothing


def test_the_block_is_no_part_of_the_identity_and_ordinary_trials_of_other_rates_share_no_stack() -> None:
    tried = replace(TRIAL, search={"configuration": 3, "test": False})
    assert tried.key == replace(tried, block=0).key
    assert replace(TRIAL, recipe=Recipe(lr=0.5)).stack_key != TRIAL.stack_key


def test_the_keys_do_not_depend_on_the_order_of_models() -> None:
    forward = {t.id for t in plan(PlanRequest(), tiny=Tiny, tiny_multi=TinyMulti)}
    assert forward == {t.id for t in plan(PlanRequest(), tiny_multi=TinyMulti, tiny=Tiny)}


def test_a_models_own_setting_wins_over_the_one_for_all() -> None:
    request = PlanRequest(models={"*": {"hidden": 5}, "tiny": {"hidden": 6}})
    trials = plan(request, tiny=Tiny, tiny_multi=TinyMulti)
    assert {t.model: t.hyperparameters["hidden"] for t in trials} == {"tiny": 6, "tiny_multi": 5}


def test_settings_of_models_that_are_not_run_change_nothing_and_are_checked() -> None:
    own, other = {"tiny": {"hidden": 6}}, {"tiny_multi": {"hidden": 5}}
    assert [t.key for t in plan(PlanRequest(models={**own, **other}), tiny=Tiny)] == [
        t.key for t in plan(PlanRequest(models=own), tiny=Tiny)
    ]
    with pytest.raises(UsageError, match="Did you mean 'hidden'"):
        plan(PlanRequest(models={"tiny_multi": {"hiden": 5}}), tiny=Tiny)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (PlanRequest(folds=(0, 7)), "unknown fold"),
        (PlanRequest(models={"tiny": {"hiden": 3}}), "Did you mean 'hidden'"),
        (PlanRequest(models={"*": {"hiden": 3}}), "Did you mean 'hidden'"),
        (PlanRequest(models={"tinny": {"hidden": 3}}), "Did you mean 'tiny'"),
        (PlanRequest(trainer={"lrr": 1.0}), "Did you mean 'lr'"),
        (PlanRequest(protocol="m5"), "Did you mean 'm4'"),
    ],
)
def test_what_cannot_be_planned_is_refused_with_the_nearest_name(request_: PlanRequest, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan(request_, tiny=Tiny)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"model_defaults": {"hiden": 8}},
            "settings of cohort 'toy': unknown argument of models 'hiden'. Did you mean 'hidden'",
        ),
        ({"model_defaults": {"tiny": {"hidden": 8}}}, "settings of cohort 'toy': unknown argument of models 'tiny'"),
        ({"model_defaults": {5: 3}}, "unknown argument of models '5'"),
        ({"trainer_defaults": {"ephocs": 3}}, "settings of cohort 'toy': unknown trainer setting 'ephocs'"),
        ({"trainer_defaults": {"lr": "1e-3"}}, "settings of cohort 'toy': trainer.lr is '1e-3'.*write 1.0e-03"),
    ],
)
def test_settings_of_a_cohort_that_no_model_has_are_refused(settings: dict[str, object], message: str) -> None:
    cohort = replace(make_cohort(), **settings)
    fits = Fits(cohort, make_split(cohort.slides, cohort.tasks, "kfold"))
    with pytest.raises(UsageError, match=message):
        make_plan({"tiny": Tiny}, [fits], PlanRequest())


def test_constructor_arguments_are_the_keyword_only_ones() -> None:
    assert constructor_arguments(Tiny) == {"hidden": 8, "dropout": 0.1}


def test_a_stored_record_gives_back_the_key_of_its_trial() -> None:
    assert (*TRIAL.identity(), "endpoints", "labels_sha256", "search") == IDENTITY
    record = json.loads(json.dumps({**TRIAL.identity(), "dataset": TRIAL.dataset, "key": TRIAL.key, "host": "a"}))
    assert recorded_key(record) == TRIAL.key
    assert trial_id_of(record) == TRIAL.id
    assert recorded_key({**record, "seed": 43}) != TRIAL.key


def test_a_trial_of_a_search_is_another_trial_in_another_place() -> None:
    tried = replace(TRIAL, search={"configuration": 17, "test": False})
    assert tried.slot == f"{TRIAL.slot}-config17"
    assert tried.key != TRIAL.key
    shorter = replace(TRIAL, search={"configuration": 17, "test": False, "epochs": 2})
    assert shorter.slot == f"{TRIAL.slot}-config17-epochs2"
    record = json.loads(json.dumps({**shorter.identity(), "dataset": shorter.dataset, "key": shorter.key}))
    assert (recorded_key(record), trial_id_of(record)) == (shorter.key, shorter.id)
    assert slot_of(tried.slot, tried.id).configuration == 17
    assert slot_of(TRIAL.slot, TRIAL.id).configuration is None
