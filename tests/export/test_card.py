"""The model card begins as the Hub reads it, and its numbers are those of model.json."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from exports_for_tests import exported, run_for_exports

from milbench.export.card import card_of


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("card") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("milbench.export.onnx_graph.find_spec", lambda _: None)
        exported(run_for_exports(tmp_path_factory), out, "m4", task="hrd")
    found: dict[str, Any] = json.loads((out / "model.json").read_text())
    assert card_of(found) == (out / "README.md").read_text()
    return found


def changed(facts: dict[str, Any], change: Callable[[dict[str, Any]], None]) -> str:
    copy = json.loads(json.dumps(facts))
    change(copy)
    return card_of(copy)


def front_of(card: str) -> dict[str, Any]:
    front, _ = card.removeprefix("---\n").split("\n---\n", 1)
    found: dict[str, Any] = yaml.safe_load(front)
    return found


def test_the_first_lines_are_those_that_the_hub_reads(facts: dict[str, Any]) -> None:
    front = front_of(card_of(facts))
    assert front["library_name"] == "milbench"
    assert "pipeline_tag" not in front  # there is none for a score of a slide
    assert set(front["tags"]) >= {"milbench", "multiple-instance-learning", "regression", "survival"}
    assert "license" not in front
    values = {each["task"]["name"]: each["metrics"][0]["value"] for each in front["model-index"][0]["results"]}
    assert values == {task: told["exported"]["score"] for task, told in facts["scores"].items()}


def test_an_ensemble_without_a_score_shows_the_hub_the_mean(facts: dict[str, Any]) -> None:
    def apart(f: dict[str, Any]) -> None:
        f["scores"]["A"]["exported"]["score"] = None
        f["scores"]["A"]["trainings"]["score"] = 0.625
        f["scores"]["hrd"]["exported"]["score"] = f["scores"]["hrd"]["trainings"]["score"] = None

    results = front_of(changed(facts, apart))["model-index"][0]["results"]
    values = {each["task"]["name"]: each["metrics"][0]["value"] for each in results}
    assert values["A"] == 0.625
    assert "hrd" not in values


def test_a_model_of_classes_has_a_task_of_the_hub(facts: dict[str, Any]) -> None:
    front = front_of(changed(facts, lambda f: f.update(tasks=["A", *(t for t in f["tasks"] if t != "A")])))
    assert front["pipeline_tag"] == "image-classification"


def test_the_leading_task_comes_first_and_every_task_has_a_row(facts: dict[str, Any]) -> None:
    rows = [line for line in card_of(facts).splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0].strip("| ") for row in rows[1:]] == ["hrd", "A", "subtype", "grade", "os"]
    mean = facts["scores"]["hrd"]["trainings"]["score"]
    assert f"| {mean:.3f}" in rows[1]


def test_an_interval_stands_beside_its_score(facts: dict[str, Any]) -> None:
    card = changed(facts, lambda f: f["scores"]["A"]["exported"].update(score=0.75, low=0.61, high=0.86))
    assert "0.750<br><sub>0.610–0.860</sub>" in card


def test_what_is_known_of_the_features_is_told(facts: dict[str, Any]) -> None:
    card = changed(
        facts,
        lambda f: f["input"].update(encoder="uni_v1", magnification=20.0, patch_size=256.0, patch_size_unit="px"),
    )
    assert "of the encoder uni_v1 at 20x, patches of 256 px" in card
    assert "Features must come from the same encoder (uni_v1)" in card


def test_folds_with_other_test_patients_give_the_ensemble_no_score(facts: dict[str, Any]) -> None:
    said = "Every patient was learned from by some of these trainings"
    assert said not in card_of(facts)
    assert said in changed(facts, lambda f: f["cohort"].update(folds_share_the_test_side=False))


def test_limits_name_the_order_of_patches_where_it_matters(facts: dict[str, Any]) -> None:
    assert "The order of the patches changes the answer" in card_of(facts)
    assert "The order of" not in changed(facts, lambda f: f["input"].update(order_of_patches_matters=False))


def test_names_cannot_leave_the_card_s_table_or_front(facts: dict[str, Any]) -> None:
    odd = "A | <b>\n---\nlicense: mit"

    def rename(f: dict[str, Any]) -> None:
        f["tasks"] = [odd]
        f["scores"] = {odd: f["scores"]["A"]}
        f["trainings"][0]["tasks"] = {odd: f["trainings"][0]["tasks"]["A"]}

    card = changed(facts, rename)
    assert front_of(card)["model-index"][0]["results"][0]["task"]["name"] == odd
    assert "license" not in front_of(card)
    body = card.split("\n---\n", 1)[1]
    assert "<b>" not in body
    assert len([line for line in body.splitlines() if line.startswith("| ")]) == 2


def test_the_card_says_that_it_is_for_research_and_whose_licence_is_open(facts: dict[str, Any]) -> None:
    card = card_of(facts)
    for said in (
        "For research.",
        "another hospital",
        "milbench does not know the licence",
        "in the first lines",
        "Li et al.",
    ):
        assert said in card


def test_a_declared_licence_of_the_data_is_told_and_cannot_leave_its_lines(facts: dict[str, Any]) -> None:
    card = changed(facts, lambda f: f["cohort"].update(licence="CC-BY-4.0"))
    assert card.count("The licence of the training data was declared as CC-BY-4.0.") == 2
    assert "does not know the licence" not in card
    odd = changed(facts, lambda f: f["cohort"].update(licence="mine\nlicense: mit\n<script>alert(1)</script>"))
    assert "license" not in front_of(odd)
    assert "<script>" not in odd.split("\n---\n", 1)[1]
    assert r"declared as mine\nlicense: mit\n&lt;script&gt;" in odd


def test_the_path_of_the_run_stays_private(facts: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    assert str(tmp_path_factory.getbasetemp()) not in card_of(facts)
