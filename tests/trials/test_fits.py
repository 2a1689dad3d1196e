"""What is planned of tasks of other kinds: which models learn them, under which loss, and what is said of it."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from models_for_tests import Tiny, TinyMulti

from milbench.cohorts.cohort import Cohort
from milbench.endpoints.endpoint import Endpoint
from milbench.errors import DataError, UsageError
from milbench.models import REGISTERED, BagOutput, register_model
from milbench.registry import is_baseline, load_models
from milbench.splits import make_split
from milbench.trials.fits import Fits
from milbench.trials.plan import Trial, make_plan
from milbench.trials.request import PlanRequest


@pytest.fixture
def own_loss() -> Iterator[type]:
    """A model whose loss reads other numbers than its last logits, and says that it learns survival."""

    @register_model("own_loss", title="Own loss", tasks="multi", kinds=("binary", "survival"))
    class OwnLoss(Tiny):
        def loss(self, output: BagOutput, targets: object, known: object) -> object:
            return super().loss(output, targets, known)  # type: ignore[arg-type]

    yield OwnLoss
    REGISTERED.pop("own_loss")


def fits(**columns: object) -> Fits:
    rng = np.random.default_rng(0)
    n = 60
    usual = {"er": np.tile([0.0, 1.0], n // 2), "os": np.arange(1.0, n + 1) * rng.choice([-1, 1], n)}
    labels = {**usual, **columns}
    slides = pd.DataFrame(
        {"slide_id": [f"s{i}" for i in range(n)], "patient_id": [f"p{i}" for i in range(n)], **labels}
    )
    cohort = Cohort(
        "toy", slides, tuple(labels), 5, "f", lambda _: None, n_folds=2, endpoints={"os": Endpoint("survival")}
    )
    return Fits(cohort, make_split(slides.assign(os=usual["er"]), ("er",), "kfold"))


def plan(made: Fits, model: type, **trainer: object) -> list[Trial]:
    return make_plan({model.info.name: model}, [made], PlanRequest(trainer=trainer))


def test_a_survival_task_has_bins_by_default_and_one_logit_under_cox() -> None:
    (discrete, *_), (cox, *_) = (
        plan(fits(), TinyMulti, **trainer) for trainer in ({}, {"survival_loss": "cox", "bags_per_step": 16})
    )
    assert [endpoint.loss for endpoint in discrete.endpoints] == ["bce", "nll"]
    assert int(discrete.outputs) == 5
    assert [endpoint.loss for endpoint in cox.endpoints] == ["bce", "cox"]
    assert int(cox.outputs) == 2
    assert discrete.key != cox.key


def test_a_cox_loss_of_too_few_slides_is_refused_with_the_setting_to_change() -> None:
    with pytest.raises(UsageError, match=r"trainer\.bags_per_step is 1\. Set trainer\.bags_per_step to 16 or more"):
        plan(fits(), TinyMulti, survival_loss="cox")
    with pytest.raises(UsageError, match=r"trainer\.bags_per_step is 15"):
        plan(fits(), Tiny, survival_loss="cox", bags_per_step=15)


def test_binary_trials_care_for_no_survival_loss() -> None:
    made = fits()
    made.cohort.slides["os"] = made.cohort.slides["er"]
    binary = Fits(Cohort("toy", made.cohort.slides, ("er", "os"), 5, "f", lambda _: None, n_folds=2), made.split)
    assert [trial.key for trial in plan(binary, Tiny, survival_loss="cox")] == [
        trial.key for trial in plan(binary, Tiny)
    ]


def test_a_model_whose_loss_reads_other_numbers_is_left_out_of_cox_by_name(own_loss: type) -> None:
    made = fits()
    trials = plan(made, own_loss, survival_loss="cox", bags_per_step=16)
    assert {trial.tasks for trial in trials} == {("er",)}
    (finding,) = made.left_out()
    assert "own_loss is left out of os: its loss reads other numbers than its last logits" in finding.text
    assert "trainer.survival_loss: nll" in finding.fix
    made = fits()
    assert {trial.tasks for trial in plan(made, own_loss)} == {("er", "os")}
    assert made.left_out() == []


def test_all_baselines_learn_cox_except_those_whose_loss_reads_instances_or_pseudo_bags() -> None:
    ours = {name for name, model in load_models().items() if is_baseline(model)}
    assert {name for name in ours if not load_models()[name].info.learns_cox} == {"dsmil", "dtfd_mil"}


def test_a_model_that_does_not_learn_a_kind_is_left_out_by_name() -> None:
    @register_model("binary_only", title="Binary only", tasks="multi", kinds=("binary",))
    class BinaryOnly(Tiny):
        pass

    REGISTERED.pop("binary_only")
    made = fits()
    assert {trial.tasks for trial in plan(made, BinaryOnly)} == {("er",)}
    (finding,) = made.left_out()
    assert "binary_only is left out of os: it does not learn survival tasks" in finding.text


def test_what_a_fold_cannot_teach_is_refused_with_cohort_fold_and_task() -> None:
    with pytest.raises(DataError, match=r"toy, fold 0, task 'os' \(survival\): all \d+ training patients are censored"):
        plan(fits(os=-np.arange(1.0, 61)), TinyMulti)


def test_what_was_noted_of_a_fit_names_its_fold() -> None:
    made = fits(os=np.repeat([1.0, 1.0, 2.0, 2.0, 2.0, -3.0], 10))
    plan(made, TinyMulti)
    assert [finding.text.split(":")[0] for finding in made.notes()] == ["fold 0", "fold 1"]
    assert all("time bins instead of 4" in finding.text for finding in made.notes())


def test_a_rule_that_changes_nothing_in_a_trial_makes_no_other_trial_of_it() -> None:
    usual = {trial.key for model in (Tiny, TinyMulti) for trial in plan(fits(), model)}

    def kept(**trainer: object) -> list[tuple[str, ...]]:
        trials = [trial for model in (Tiny, TinyMulti) for trial in plan(fits(), model, **trainer)]
        return [trial.tasks for trial in trials if trial.key in usual and trial.fold == 0]

    assert kept(task_weights="uncertainty") == kept(task_weights="dwa") == [("er",), ("os",)], "nothing to weigh"
    assert kept(task_weights="equal") == [("er",)], "a binary task alone is never divided"
    assert kept(class_weights="balanced") == kept(sampler="balanced") == [("os",)], "survival has no classes"
    assert kept(label_smoothing=0.1) == [("os",)], "survival has no classes"
    assert kept(bag_patches=9) == kept(warmup=0.5) == kept(optimizer="adamw") == []
