"""A finished run scores a cohort that it never saw: numbers, storage, and what a kill leaves."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from external_for_tests import external_of, train, two_cohorts, watch
from runs_for_tests import make_run

from milbench.bag import Bag
from milbench.cohorts.cohort import Cohort, folder_cohort
from milbench.commands.cli import main
from milbench.errors import DataError, StoreError
from milbench.external import evaluate, scoring
from milbench.external.analysis import compared, drop_frame, refuse_incomplete
from milbench.external.evaluate import External, scored
from milbench.external.scored import RECORD, CohortIdentity, external_folder, scored_folder, write_scored
from milbench.external.scoring import Scorer
from milbench.external.trained import trained
from milbench.heatmap.stored import find_cohort
from milbench.models import BagOutput, MILModel
from milbench.store.run import open_run

EPOCHS = ("--set", "trainer.epochs=30")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Run folder of AMIL on the first cohort; the external one and one of other scanners."""
    folder = tmp_path_factory.mktemp("external")
    own, other = two_cohorts(folder)
    _, shifted = two_cohorts(folder / "shifted", shift=2.0)
    return train(folder, own, "--models", "amil", *EPOCHS), other, shifted


@pytest.fixture
def run(world: tuple[Path, Path, Path], tmp_path: Path) -> Path:
    """A copy of the run, to write into."""
    return Path(shutil.copytree(world[0], tmp_path / "copy", ignore=shutil.ignore_patterns("external")))


def counting(cohort: Cohort, seen: list[str], *, stop_after: int = 10**6) -> Cohort:
    """The cohort, whose loads are noted, and which fails after so many."""

    def load(slide_id: str) -> Bag:
        if len(seen) == stop_after:
            raise KeyboardInterrupt
        seen.append(slide_id)
        return cohort.load(slide_id)

    return Cohort(**{**vars(cohort), "load": load})


def optimum(cohort: Path) -> dict[str, dict[str, float]]:
    """What the simulation knows of the best AUROC, by what is known and task."""
    return dict(json.loads((cohort / "truth.json").read_text())["oracle_auc"])


def aurocs(external: External, run: Path) -> pd.DataFrame:
    trials = scored(external, "cpu", watch).trials
    return drop_frame(compared(external, trials, reference="amil", draws=200, complete_cases=False)["binary"])


def test_stored_models_score_the_run_s_own_test_side_as_the_run_did(world: tuple[Path, Path, Path]) -> None:
    source = trained(open_run(world[0]))
    cohort = find_cohort(source.run, "home")
    trial = source.trials[0]
    known = trial.predictions()
    slides = list(known.loc[known["role"] == "test", "slide_id"])
    scorer = Scorer(source.models([trial]), "cpu")
    logits = np.concatenate([scorer.logits(cohort.cohort.load(slide))[0] for slide in slides])
    np.testing.assert_allclose(
        1 / (1 + np.exp(-logits.astype(float))), known.loc[known["role"] == "test", "probability"], rtol=1e-4
    )


def test_logits_that_are_kept_hold_no_memory_of_the_forward(world: tuple[Path, Path, Path]) -> None:
    source = trained(open_run(world[0]))
    scorer = Scorer(source.models(source.trials), "cpu")
    for logits in scorer.logits(find_cohort(source.run, "home").cohort.load("slide-00000")):
        assert logits.base is None


def test_random_numbers_are_seeded_once_and_start_anew_for_each_slide(
    world: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = trained(open_run(world[0]))
    models = source.models(source.trials)
    for model in models:
        monkeypatch.setattr(model, "model", Drawing(model.model))
    bag = find_cohort(source.run, "home").cohort.load("slide-00000")
    scorer = Scorer(models, "cpu")
    monkeypatch.setattr(torch, "manual_seed", lambda _: pytest.fail("seeded for a slide"))
    first, second = scorer.logits(bag), scorer.logits(bag)
    np.testing.assert_array_equal(first, second)
    assert len({float(logits[0]) for logits in first}) == len(models)


def test_what_a_model_draws_does_not_depend_on_the_models_beside_it(world: tuple[Path, Path, Path]) -> None:
    source = trained(open_run(world[0]))
    first, second = source.models(source.trials)[:2]
    for model in (first, second):
        model.model = Drawing(model.model)
    bag = find_cohort(source.run, "home").cohort.load("slide-00000")
    alone = [Scorer([model], "cpu").logits(bag)[0] for model in (first, second)]
    beside = Scorer([first, first, second, first], "cpu").logits(bag)
    for logits, number in zip(beside, (0, 0, 1, 0), strict=True):
        np.testing.assert_array_equal(logits, alone[number])


class Drawing(torch.nn.Module):
    """A model that draws a random number for each bag, from every generator that it can reach."""

    def __init__(self, model: MILModel) -> None:
        super().__init__()
        self.model, self.info = model, model.info
        self.inputs, self.wanted_neighbours = model.inputs, model.wanted_neighbours

    def forward(self, features: torch.Tensor) -> BagOutput:
        output = self.model(features)
        noise = torch.rand(1) + float(np.random.rand()) + random.random()  # noqa: NPY002
        return output._replace(logits=output.logits + noise)


def test_internal_and_external_scores_come_near_the_best_that_can_be_had(world: tuple[Path, Path, Path]) -> None:
    table = aurocs(external_of(world[0], world[1]), world[0]).set_index("task")
    assert list(table.index) == ["A", "B", "mean over tasks"]
    # who knows the carriers has the highest AUROC: 0.9 of cohorts without end, and this of the labels as drawn
    best = pd.Series(optimum(world[1])["here"])[["A", "B"]]
    assert optimum(world[1])["carrier"]["macro"] == 0.9
    for score in ("external_score", "external_ensemble_score"):
        assert (table[score][:2] - best).between(-0.1, 0.02).all(), score
    assert (table["internal_score"][:2] > 0.7).all()
    np.testing.assert_allclose(table["drop"], table["internal_score"] - table["external_score"])
    assert (table["external_low"] < table["external_score"]).all()
    assert (table["external_score"] < table["external_high"]).all()


def test_another_prevalence_moves_the_calibration_and_hardly_the_auroc(
    run: Path, world: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    _, rare = two_cohorts(tmp_path, prevalence=0.15)
    found = {}
    for name, folder, cohort in (("as trained", world[0], world[1]), ("rare", run, rare)):
        external = external_of(folder, cohort)
        trials = scored(external, "cpu", watch).trials
        both = compared(external, trials, reference="amil", draws=100, complete_cases=False)["binary"]
        scores = both.external.scores
        found[name] = scores[scores["level"] == "patient"][["ece", "score"]].mean()
    assert found["rare"]["score"] > found["as trained"]["score"] - 0.1
    assert found["rare"]["ece"] > found["as trained"]["ece"] + 0.03


def test_a_shift_of_the_features_costs_what_it_costs(world: tuple[Path, Path, Path]) -> None:
    plain, shifted = (aurocs(external_of(world[0], cohort), world[0])["external_score"] for cohort in world[1:])
    assert shifted.mean() < plain.mean() - 0.1


def test_thresholds_are_those_of_the_run_s_validation_side(world: tuple[Path, Path, Path]) -> None:
    external = external_of(world[0], world[1])
    found = compared(external, scored(external, "cpu", watch).trials, reference="amil", draws=100, complete_cases=False)
    inner, outer = (side.scores for side in found["binary"])
    np.testing.assert_array_equal(inner["threshold"], outer["threshold"])
    assert not np.array_equal(inner["sensitivity"], outer["sensitivity"])


def test_each_slide_is_read_once_for_all_trials(run: Path, world: tuple[Path, Path, Path]) -> None:
    seen: list[str] = []
    cohort = counting(folder_cohort(world[1]), seen)
    assert scored(external_of(run, cohort), "cpu", watch).n_new == 4
    assert seen == list(cohort.slides["slide_id"])
    assert scored(external_of(run, cohort), "cpu", watch).n_new == 0
    assert len(seen) == len(cohort.slides)


def test_a_killed_command_goes_on_where_it_stopped(
    run: Path, world: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "CHECKPOINT_SECONDS", 0.0)
    whole, seen = folder_cohort(world[1]), []
    with pytest.raises(KeyboardInterrupt):
        scored(external_of(run, counting(whole, seen, stop_after=50)), "cpu", watch)
    trials = scored(external_of(run, counting(whole, seen)), "cpu", watch).trials
    assert seen == list(whole.slides["slide_id"])
    once = scored(external_of(world[0], world[1]), "cpu", watch).trials
    for resumed, plain in zip(trials, once, strict=True):
        pd.testing.assert_frame_equal(resumed.answers(), plain.answers())
    assert not list(external_folder(open_run(run), "away").glob("*.npz"))


@pytest.mark.parametrize("damage", ["predictions", "record", "gone"])
def test_damaged_scores_are_computed_again_and_others_stay(
    run: Path, world: tuple[Path, Path, Path], damage: str
) -> None:
    trials = scored(external_of(run, world[1]), "cpu", watch).trials
    folder = scored_folder(open_run(run), "away", trials[1].id)
    before = pd.read_parquet(folder / "predictions.parquet")
    if damage == "predictions":
        before.assign(probability=0.5).to_parquet(folder / "predictions.parquet")
    elif damage == "record":
        (folder / RECORD).write_text("{")
    else:
        shutil.rmtree(folder)
    assert scored(external_of(run, world[1]), "cpu", watch).n_new == 1
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "predictions.parquet"), before)


def test_scores_that_another_command_put_there_meanwhile_stay_as_they_are(
    run: Path, world: tuple[Path, Path, Path]
) -> None:
    external = external_of(run, world[1])
    trial = scored(external, "cpu", watch).trials[0]
    before = (trial.path / "predictions.parquet").stat()
    identity = json.loads((trial.path / RECORD).read_text())
    known = CohortIdentity(*(identity[key] for key in ("cohort", "fingerprint", "labels_sha256", "slides_sha256")))
    write_scored(open_run(run), known, trial.own, pd.DataFrame({"slide_id": ["other"]}), "cpu")
    after = (trial.path / "predictions.parquet").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_scores_that_another_command_replaced_are_missed(
    run: Path, world: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    external = external_of(run, world[1])
    monkeypatch.setattr(evaluate, "write_scored", lambda *_: None)
    with pytest.raises(StoreError, match=r"scores of 'away' by 4 trials are missing .* another command wrote scores"):
        scored(external, "cpu", watch)


def test_scores_of_other_labels_are_not_taken_for_these(
    run: Path, world: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    other = Path(shutil.copytree(world[1], tmp_path / "away"))
    assert scored(external_of(run, other), "cpu", watch).n_new == 4
    labels = pd.read_csv(other / "labels.csv")
    labels.loc[0, "A"] = 1 - labels.loc[0, "A"]
    labels.to_csv(other / "labels.csv", index=False)
    assert scored(external_of(run, other), "cpu", watch).n_new == 4


def test_the_record_says_which_trial_and_which_cohort(run: Path, world: tuple[Path, Path, Path]) -> None:
    trial = scored(external_of(run, world[1]), "cpu", watch).trials[0]
    record = json.loads((trial.path / RECORD).read_text())
    assert (record["trial"], record["cohort"]) == (trial.info["key"], "away")
    assert record["weights"] == trial.info["payload_sha256"]["model.safetensors"]


# ---- what is refused ---------------------------------------------------------------------------------


def test_patients_of_the_run_are_refused_or_dropped(run: Path, world: tuple[Path, Path, Path], tmp_path: Path) -> None:
    own = open_run(run).labels("home")
    other = Path(shutil.copytree(world[1], tmp_path / "away"))
    labels = pd.read_csv(other / "labels.csv")
    labels.loc[:2, "case_id"] = own["patient_id"].iloc[0]
    labels.to_csv(other / "labels.csv", index=False)
    with pytest.raises(DataError, match=r"1 patients of 'away' are in the run's cohort 'home' too, by patient id"):
        external_of(run, other)
    external = external_of(run, other, allow_overlap=True)
    assert len(external.slides) == len(labels) - 3
    assert external.remarks[0].startswith("dropped: 3 slides of 1 patients")


def test_copies_of_the_run_s_slides_under_other_names_are_refused(
    run: Path, world: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    other = Path(shutil.copytree(world[1], tmp_path / "away"))
    own = find_cohort(open_run(run), "home").cohort
    file = other / "features" / f"{pd.read_csv(other / 'labels.csv')['slide_id'][4]}.h5"
    file.write_bytes(own.files[own.slides["slide_id"][7]].read_bytes())
    with pytest.raises(DataError, match="1 slides of cohort 'away' hold the very features of slides of the run's"):
        scored(external_of(run, other), "cpu", watch)


def test_a_run_without_weights_is_refused_before_a_slide_is_read(tmp_path: Path) -> None:
    run = make_run(tmp_path / "bare", models=("amil",))
    with pytest.raises(StoreError, match="keeps no weights of 12 of 12 trials"):
        trained(run)


def test_tampered_weights_and_missing_ones_count_as_a_trial_that_is_not_done(run: Path) -> None:
    every = trained(open_run(run)).trials
    weights = every[0].path / "model.safetensors"
    weights.write_bytes(
        weights.read_bytes()[:-1] + b"\0" if weights.read_bytes()[-1] else weights.read_bytes()[:-1] + b"\1"
    )
    assert [trial.id for trial in trained(open_run(run)).trials] == [trial.id for trial in every[1:]]
    (every[1].path / "model.safetensors").unlink()
    source = trained(open_run(run))
    assert (len(source.trials), source.n_planned) == (2, 4)


def test_a_half_finished_run_is_refused_if_a_model_lacks_what_others_have(tmp_path: Path) -> None:
    whole = make_run(tmp_path / "whole", models=("amil", "dsmil"))
    refuse_incomplete(whole.trials(), ("TP53", "PIK3CA"))
    half = make_run(tmp_path / "half", models=("amil", "dsmil"), leave_out=("toy/amil/TP53/fold0",))
    refuse_incomplete(half.trials(), ("PIK3CA",))
    with pytest.raises(StoreError, match=r"half done: amil lacks 1 of 6 \(task, fold, seed\) cells"):
        refuse_incomplete(half.trials(), ("TP53", "PIK3CA"))


# ---- the command -------------------------------------------------------------------------------------


def test_the_command_prints_what_is_left_and_writes_every_table(
    run: Path, world: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    capsys.readouterr()
    words = ["evaluate", str(run), "--cohort", str(world[1]), "--draws", "100"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "away: 120 slides of 101 patients, 2 tasks, scored by 4 trials of home" in printed
    assert "4 trials scored 120 slides" in printed
    names = {path.name for path in external_folder(open_run(run), "away").iterdir()}
    assert {"index.md", "external.csv", "external.tex", "external_metrics.md", "label_shift.csv"} <= names
    assert {"external_roc.png", "external_roc.pdf", "external_calibration.png"} <= names
    assert main([*words, "--out", str(tmp_path / "tables")]) == 0
    assert "0 trials scored 120 slides, 4 had done so before" in capsys.readouterr().out
    again = (tmp_path / "tables" / "away" / "external.csv").read_bytes()
    assert again == (external_folder(open_run(run), "away") / "external.csv").read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--cohort", "nowhere"), "cohort nowhere does not exist"),
        (("--cohort", "nowhere", "--dataset", "homes"), "unknown cohort of run copy 'homes'. Did you mean 'home'?"),
        (("--cohort", "digits"), "cohort 'digits' has none of the run's tasks A, B"),
        (("--cohort", "digits", "--draws", "9"), "--draws is 9. Give 100 or more"),
    ],
)
def test_one_message_says_what_is_wrong(
    run: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    capsys.readouterr()
    assert main(["evaluate", str(run), *words]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
