"""The speed benchmarks: the reference trains, the floor counts what a layer multiplies, results keep to their section."""

import os
from math import prod
from pathlib import Path

import beyond_memory
import fold_stacks
import gpu_profile
import gpu_speed
import model_speed
import projection
import pytest
import quickstart
import reference
import stacking
import torch
from arithmetic_floor import Call, Operand, recorded, replay
from command import Finished
from made_cohort import Size, temporary_cohort, write_cohort
from results_file import table, with_section
from sklearn.metrics import roc_auc_score
from timing import interleaved, ratio
from torch import nn

from milbench.registry import load_models, select_models
from milbench_baselines.layers import products, row_blocks

SIZE = Size(slides=40, patches=5, width=8, tasks=2)


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Slides whose features tell the label of task0."""
    folder = write_cohort(tmp_path / "cohort", SIZE)
    positive = reference.Slides(folder, [f"slide{number:05d}" for number in range(SIZE.slides)], ["task0"])
    generator = torch.Generator().manual_seed(0)
    for path, label in zip(positive.paths, positive.labels, strict=True):
        torch.save(torch.randn(SIZE.patches, SIZE.width, generator=generator) + 2 * label, path)
    return folder


@pytest.mark.parametrize("name", [name for name, m in load_models().items() if m.__module__.startswith("milbench_")])
def test_a_steps_memory_is_told_without_computing_it(name: str) -> None:
    """On tensors without values; a larger bag needs more, except where one patch alone is trained through."""
    small, large = (model_speed.step_bytes(model_speed.Pair(name, n, 64)) for n in (30, 3000))
    assert small > 0
    assert (small < large) == (name != "max_pooling")


def test_the_reference_learns_what_the_features_tell(cohort: Path) -> None:
    sides = reference.sides_of(cohort, 0)
    trained = reference.train("mean_pooling", cohort, ["task0"], sides, epochs=8)
    labels = reference.Slides(cohort, sides.test, ["task0"]).labels
    assert trained.losses[-1] < trained.losses[0]
    assert roc_auc_score(labels, trained.probabilities) > 0.9


def test_the_reference_trains_max_pooling_which_asks_for_the_mask_alone(cohort: Path) -> None:
    sides = reference.sides_of(cohort, 0)
    assert reference.train("max_pooling", cohort, ["task0"], sides, epochs=1).losses[0] > 0


def test_the_reference_trains_a_model_of_several_tasks(cohort: Path) -> None:
    sides = reference.sides_of(cohort, 1)
    trained = reference.train("mmoe_amil", cohort, ["task0", "task1"], sides, epochs=1)
    assert trained.probabilities.shape == (len(sides.test), 2)
    assert len(trained.losses) == 1


def test_no_slide_of_the_reference_is_on_two_sides(cohort: Path) -> None:
    sides = reference.sides_of(cohort, 0)
    every = [slide for side in sides for slide in side]
    assert len(every) == len(set(every)) == SIZE.slides


def test_the_reference_drops_out_with_torchs_own_layer() -> None:
    class Dropout(nn.Module):
        def __init__(self, p: float) -> None:
            super().__init__()
            self.p = p

    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(Dropout(0.3)))
    reference.use_plain_dropout(model)
    assert isinstance(model[1][0], nn.Dropout)
    assert model[1][0].p == 0.3


def n_multiply_adds(call: Call) -> int:
    """Of one product of two matrices [n, k] and [k, m], or of G pairs [G, n, k] and [G, k, m]."""
    left, right = [each for each in call.args if isinstance(each, Operand) and len(each.shape) >= 2][-2:]
    assert left.shape[-1] == right.shape[-2]
    return prod(left.shape) * right.shape[-1]


@pytest.mark.parametrize(("of_features", "n_products"), [(False, 2), (True, 3)])
def test_the_floor_counts_a_linear_layer_forward_and_backward(*, of_features: bool, n_products: int) -> None:
    features, layer = torch.randn(7, 5, requires_grad=of_features), nn.Linear(5, 3)
    calls = recorded(lambda: torch.relu(layer(features)).sum().backward())
    assert [n_multiply_adds(call) for call in calls] == [7 * 5 * 3] * n_products


def test_the_floor_counts_products_that_are_added_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_blocks, "NUMBERS", 0)
    patches, width, hidden, attention = 2500, 12, 10, 4  # three blocks, whose gradients are added up
    model = load_models()["amil"](width, 1, hidden=hidden, attention=attention)
    calls = recorded(lambda: model(torch.randn(patches, width)).logits.sum().backward())
    found = sum(n_multiply_adds(call) for call in calls if call.args and len(call.args[-1].shape) >= 2)
    embedding, branches = 2 * width * hidden, 3 * 2 * hidden * attention
    assert found == pytest.approx(patches * (embedding + branches), rel=0.02)


def test_the_floor_replays_large_products_by_the_library_that_makes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "prefers_onednn", lambda: True)
    x, weights, biases = torch.randn(700, 256), torch.randn(2, 128, 256), torch.randn(2, 128)
    calls = recorded(lambda: products.affine_of_each(x, weights, biases, out=torch.empty(2, 700, 128)))
    calls += recorded(lambda: products.affine(x, weights[0], biases[0]))
    sizes = []
    monkeypatch.setattr(products, "_by_onednn", lambda left, right, **_: sizes.append((*left.shape, len(right))))
    replay(calls)()
    assert sizes == [(700, 256, 128)] * 3


def test_the_floor_replays_exactly_what_was_recorded() -> None:
    features, layer = torch.randn(7, 5), nn.Linear(5, 3)
    calls = recorded(lambda: layer(features).sum().backward())
    assert recorded(replay(calls)) == calls


def test_an_operand_is_made_with_the_layout_of_the_recorded_one() -> None:
    expanded = Operand((4, 3), (0, 1), torch.float32, torch.device("cpu")).made()
    assert (expanded.shape, expanded.stride()) == ((4, 3), (0, 1))


def test_results_replace_their_own_section_only() -> None:
    text = "# Results\n"
    for name, section in (("a.py", "first"), ("b.py", "second"), ("c.py", "third")):
        text = with_section(text, name, section)
    assert with_section(text, "b.py", "measured again\n") == text.replace("second", "measured again")


def test_a_section_without_its_end_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"no line '<!-- end a\.py -->'"):
        with_section("<!-- begin a.py -->\nfirst\n", "a.py", "second")


def test_a_table_aligns_numbers_right() -> None:
    assert table(["name", "s"], [["a", "1"]]) == "| name | s |\n| --- | ---: |\n| a | 1 |"


def test_contestants_take_turns_and_warm_up() -> None:
    turns: list[str] = []
    found = interleaved({name: lambda name=name: turns.append(name) or len(turns) for name in "ab"}, 2, warm_ups=1)
    assert turns == ["a", "b"] * 3
    assert found == {"a": [3, 5], "b": [4, 6]}


def test_a_ratio_pairs_the_values_of_one_repetition() -> None:
    assert ratio([2.0, 30.0, 4.0], [1.0, 10.0, 1.0]) == 3.0


def test_work_that_is_lost_in_the_start_up_is_no_number() -> None:
    assert Finished(5.0, 2.0, []).working_seconds == 3.0
    with pytest.raises(SystemExit, match="larger cohort"):
        _ = Finished(2.0, 2.5, []).working_seconds


def test_a_made_cohort_is_gone_afterwards(tmp_path: Path) -> None:
    with temporary_cohort(SIZE, tmp_path) as made:
        files = list((made / "features").iterdir())
        assert [path.stat().st_size >= SIZE.bag_bytes for path in files] == [True] * SIZE.slides
    assert list(tmp_path.iterdir()) == []


def test_the_plain_loop_of_the_quickstart_takes_a_steps_bags_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    models = [load_models()["mean_pooling"](4, 1).eval() for _ in range(2)]  # no dropout
    models[1].load_state_dict(models[0].state_dict())
    bags, labels = torch.randn(3, 5, 4), torch.tensor([[0.0], [1.0], [1.0]])
    optimizer = reference.make_adam(models[0])
    loss = sum(models[0].loss(models[0](bag), label, torch.ones(1)) for bag, label in zip(bags, labels, strict=True))
    (loss / 3).backward()
    optimizer.step()
    seen = []
    monkeypatch.setattr(models[1], "forward", lambda bag, forward=models[1].forward: seen.append(bag) or forward(bag))
    quickstart.train_epoch(models[1], reference.make_adam(models[1]), bags, labels, at_once=3)
    assert [bag.shape for bag in seen] == [bags[0].shape] * 3
    for stepped, expected in zip(models[1].parameters(), models[0].parameters(), strict=True):
        torch.testing.assert_close(stepped, expected)


def test_the_plain_loops_time_is_that_of_all_trials_and_all_their_bags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quickstart, "time_plain_loop", lambda _: quickstart.PerBag(step=1.0, look=0.01))
    counts = {"train": 60, "val": 20, "test": 20}
    trials = [{"model": name, "n_slides": counts, "n_epochs": 2} for name in ("a", "a", "b")]
    assert quickstart.plain_seconds(trials) == pytest.approx({"a": 2 * 120.8, "b": 120.8})


def test_stacking_ends_where_the_rule_loses_least() -> None:
    assert stacking.crossover([1, 4, 16, 64], [3.0, 0.9, 2.0, 0.5]) == 32
    assert stacking.crossover([1, 4], [2.0, 3.0]) is None
    assert stacking.crossover([1, 4], [0.5, 0.9]) is None


@pytest.mark.parametrize("how", [stacking.stacked_step, stacking.looped_step])
def test_both_ways_of_stepping_run_twice(how) -> None:
    cell = stacking.Cell(patches=3, width=4, hidden=8)
    step = how(cell, 2, torch.randn(cell.patches, cell.width))
    first = recorded(step)
    assert recorded(step) == first != []


def test_a_trial_asks_for_its_slides_in_order() -> None:
    sides = reference.Sides(["a", "b"], ["c"], ["d"])
    assert beyond_memory.order(sides, 2) == ["a", "b", "c", "a", "b", "c", "c", "d"]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system has no posix_fadvise")
def test_forgetting_a_file_keeps_its_content(cohort: Path) -> None:
    before = {path: path.read_bytes() for path in (cohort / "features").iterdir()}
    beyond_memory.forget(cohort)
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_one_sentence_is_said(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setattr("sys.argv", ["gpu_speed.py"])
    gpu_speed.main()
    assert capsys.readouterr().out.strip() == gpu_speed.NO_GPU


def test_without_a_gpu_the_profile_says_so_and_counts_operators_on_a_cpu(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["gpu_profile.py"])
    assert gpu_profile.main() == 0
    assert capsys.readouterr().out.strip() == gpu_profile.NO_GPU
    words = ["--cpu", "--models", "mean_pooling", "max_pooling", "--patches", "9", "--width", "8"]
    for more in ([], ["--members", "3"]):
        monkeypatch.setattr("sys.argv", ["gpu_profile.py", *words, *more])
        assert gpu_profile.main() == 0
        said = capsys.readouterr().out
        assert "Operator calls of a step on a CPU" in said
        assert "| mean_pooling |" in said


def test_the_table_of_graphs_has_what_each_models_first_trial_replayed() -> None:
    def trial(model: str, stack: int, **told: object) -> dict[str, object]:
        return {"model": model, "stack": stack, "cuda_graphs": told}

    trials = [
        trial("amil", 10, replayed_steps=7, replayed_evaluations=3, why_not_more=""),
        trial(
            "m4", 5, replayed_steps=0, replayed_evaluations=2, replayed_steps_of_folds=9, why_not_more="memory ran out"
        ),
        trial("m4", 5, replayed_steps=1, replayed_evaluations=1, replayed_steps_of_folds=9, why_not_more=""),
    ]
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in gpu_speed.of_graphs(["amil", "m4"], trials).splitlines()
    ]
    assert rows[2:] == [["amil", "10", "7", "0", "3", ""], ["m4", "5", "0", "9", "2", "memory ran out"]]


def test_a_profile_says_for_how_long_no_kernel_runs() -> None:
    found = gpu_profile._profile(4.0, [("a", 0.5, 2.0), ("b", 0.5, 7.0), ("c", 2.0, 1.0)])
    assert found == (4.0, 3.0, 10.0, [("c", 2.0, 1.0), ("b", 0.5, 7.0), ("a", 0.5, 2.0)])
    assert found.idle == 0.25


def test_folds_side_by_side_and_alone_are_timed_and_counted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--models", "shared_bottom_amil", "--slides", "10", "--patches", "4", "--width", "6", "--hidden", "8"]
    monkeypatch.setattr("sys.argv", ["fold_stacks.py", *words, "--repetitions", "1", "--bags-per-step", "2"])
    fold_stacks.main()
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| shared_bottom_amil")]
    alone, side_by_side = (int(cell.replace(",", "")) for cell in row.split("|")[-3:-1])
    assert side_by_side < alone, "one operation serves three trials"


def test_the_study_has_1575_trainings() -> None:
    nine = select_models(["study"], load_models())
    assert len(projection.study(dict.fromkeys(nine, projection.Timing(1, 1)))) == 1575
    assert len(gpu_speed.COHORTS) * sum(gpu_speed.trainings(name) for name in nine) == 1575
