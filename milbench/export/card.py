"""Card: README.md of an export, a model card whose every number comes from `model.json`.

Its first lines are those that the Hugging Face Hub reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import yaml

from milbench.cohorts.bag_names import PATIENT, SLIDE
from milbench.export.layout import FACTS
from milbench.report.score_tables import interval, number
from milbench.report.tables import Cell, Row, Table, markdown, to_markdown
from milbench.visible import visible_line

TAGS = ("milbench", "multiple-instance-learning", "computational-pathology", "histopathology")

PIPELINES = {"binary": "image-classification", "multiclass": "image-classification", "ordinal": "image-classification"}
"""Task of the Hub by kind. It has none for a score of a slide and for survival."""

BAGS = {SLIDE: "one whole-slide image", PATIENT: "all whole-slide images of one patient, joined"}

SIDES = {SLIDE: ("slides", "patients"), PATIENT: ("patients",)}
"""What is counted of the test side, by what a bag is."""

NAN = float("nan")

LICENCE = "# license: fill this in before you share the model."


def card_of(facts: Mapping[str, Any]) -> str:
    """The card as Markdown."""
    parts = [
        f"---\n{_front(facts)}{LICENCE} {_declared(facts)}\n---",
        f"# {_title(facts)}",
        _what(facts),
        f"## Scores on the run's own test side\n\n{to_markdown(_table(facts)).strip()}",
        _how_they_came(facts),
        f"## How to load it\n\n{_loading(facts)}",
        f"## What it was trained on\n\n{_training(facts)}",
        f"## Limits\n\n{_limits(facts)}",
        f"## Licence and citation\n\n{_licence(facts)}",
    ]
    return "\n\n".join(parts) + "\n"


def _front(facts: Mapping[str, Any]) -> str:
    kind = facts["scores"][facts["tasks"][0]]["kind"]
    pipeline = {"pipeline_tag": PIPELINES[kind]} if kind in PIPELINES else {}
    kinds = dict.fromkeys(facts["scores"][task]["kind"] for task in facts["tasks"])
    values = {"library_name": "milbench", **pipeline, "tags": [*TAGS, *kinds], "model-index": [_index(facts)]}
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _index(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Scores as the Hub shows them beside a model; tasks without a score are left out."""
    cohort = facts["cohort"]["name"]
    results = [
        {
            "task": {"type": PIPELINES.get(told["kind"], "other"), "name": task},
            "dataset": {"type": cohort, "name": cohort, "split": "test"},
            "metrics": [{"type": told["metric"], "name": told["title"], "value": value}],
        }
        for task, told in facts["scores"].items()
        if (value := _value(told)) is not None
    ]
    return {"name": facts["model"]["name"], "results": results}


def _value(told: Mapping[str, Any]) -> float | None:
    """Score of the export itself; the mean over its trainings if their ensemble has none."""
    own: float | None = told["exported"]["score"]
    mean: float | None = told["trainings"]["score"]
    return mean if own is None else own


def _title(facts: Mapping[str, Any]) -> str:
    tasks = ", ".join(facts["tasks"][:3]) + (", ..." if len(facts["tasks"]) > 3 else "")
    return markdown(f"{facts['model']['title']}: {tasks} of {facts['cohort']['title']}")


def _what(facts: Mapping[str, Any]) -> str:
    model, told, trainings = facts["model"], facts["input"], facts["trainings"]
    what = (
        f"an ensemble of {len(trainings)} trainings" if facts["combined"] else f"one training ({trainings[0]['name']})"
    )
    encoder = f" of the encoder {told['encoder']}" if told["encoder"] else ""
    at = f" at {told['magnification']:g}x" if told["magnification"] else ""
    patches = (
        f", patches of {told['patch_size']:g} {told['patch_size_unit'] or ''}".rstrip() if told["patch_size"] else ""
    )
    lines = [
        f"This is {what} of {model['title']} ({model['n_parameters']:,} parameters each), a multiple-instance-learning model.",
        f"It takes the patch features of {BAGS[told['bag']]}, {model['in_features']} numbers per patch{encoder}{at}{patches}.",
        f"It was trained and tested with milbench {facts['versions']['trained_with']['milbench']}.",
    ]
    if model["paper"]:
        lines.append(f"The model is that of {model['paper'].rstrip('.')}.")
    return markdown(" ".join(lines))


def _table(facts: Mapping[str, Any]) -> Table:
    counted = SIDES[facts["input"]["bag"]]
    rows = tuple(Row(_called(task, told), _cells(told, counted)) for task, told in facts["scores"].items())
    columns = ("metric", "this export", "mean over trainings", "trainings", *(f"test {what}" for what in counted))
    return Table("scores", "", "task", columns, rows, pd.DataFrame())


def _called(task: str, told: Mapping[str, Any]) -> str:
    return f"{task} (control)" if told["is_control"] else task


def _cells(told: Mapping[str, Any], counted: Sequence[str]) -> tuple[Cell, ...]:
    own, mean, side = told["exported"], told["trainings"], told["test_side"]
    return (
        Cell(told["title"]), _score(own), _score(mean),
        Cell(str(mean["number"])), *(Cell(str(side.get(f"n_{what}", "–"))) for what in counted),
    )  # fmt: skip


def _score(told: Mapping[str, Any]) -> Cell:
    score, low, high = (NAN if told[name] is None else told[name] for name in ("score", "low", "high"))
    return Cell(number(score), interval(low, high))


def _how_they_came(facts: Mapping[str, Any]) -> str:
    by = "slide by slide (survival: patient by patient)" if facts["input"]["bag"] == "slide" else "patient by patient"
    lines = [
        "*This export*: what these weights reach, patient by patient, with a 95 % interval over patients.",
        f"*Mean over trainings*: of all finished trainings of the model, {by}, with a 95 % interval over patients and folds.",
    ]
    if facts["combined"] and not facts["cohort"]["folds_share_the_test_side"]:
        lines.append(
            "The folds have different test patients. Every patient was learned from by some of these trainings, so the "
            "ensemble itself has no score."
        )
    if any(told["too_small_for_an_interval"] for told in facts["scores"].values()):
        lines.append("A task without an interval has too few test patients of a class.")
    left = facts["cohort"]["n_trainings_planned"] - facts["cohort"]["n_trainings_finished"]
    if left:
        lines.append(f"{left} of {facts['cohort']['n_trainings_planned']} planned trainings were not done.")
    return " ".join([*lines, f"All metrics, and thresholds from validation sides, are in `{FACTS}`."])


def _loading(facts: Mapping[str, Any]) -> str:
    width, neighbours = facts["model"]["in_features"], facts["input"].get("neighbours_in_layout")
    imports = "" if neighbours is None else "from milbench.bag import Bag\nfrom milbench.layout import layout_of\n"
    opening = (
        f"```python\nimport milbench\n{imports}\n"
        'model = milbench.load_exported("FOLDER")    # checks the checksum of every weight file\n'
    )
    asking = f"model.answers(features)                     # features: Tensor [patches, {width}], not scaled\n```"
    if neighbours is not None:
        asking = (
            f"\n# features: Tensor [patches, {width}], not scaled; coords: Tensor [patches, 2], top-left corner (x, y) of each patch\n"
            "# patch_size: edge of a patch in the unit of coords; None = the commonest distance between neighbouring patches\n"
            'bag = Bag(features, "SLIDE", coords=coords, patch_size=patch_size)\n'
            f"model.answers(features, layout_of(bag, {neighbours}))\n```\n\n"
            "The model needs to know where the patches lie."
        )
    code = opening + asking
    without = (
        f"Without milbench: `{FACTS}` has the constructor, the scaling of the features and how logits become answers, "
        "training by training. The weights are safetensors of the model's `state_dict`."
    )
    onnx = facts["onnx"]
    graph = (
        f"`{onnx['file']}` needs onnxruntime alone. Its input `{onnx['input']}` takes the features of one {facts['input']['bag']}, not scaled; "
        f"its outputs are logits ({', '.join(f'`{name}`' for name in onnx['outputs'])})."
        if onnx["file"]
        else f"There is no ONNX file: {markdown(onnx['reason'])}."
    )
    return f"{code}\n\n{without}\n\n{graph}"


def _training(facts: Mapping[str, Any]) -> str:
    cohort, first = facts["cohort"], facts["trainings"][0]
    scaling = first["scaler"]["mode"]
    items = [
        f"Cohort: {cohort['title']} ({cohort['name']}), {cohort['n_slides']} slides of {cohort['n_patients']} patients, "
        f"fingerprint `{cohort['fingerprint'][:16]}`.",
        f"Split: {cohort['split']}, by patient, SHA-256 `{cohort['split_sha256'][:16]}`.",
        f"Trainings: {', '.join(each['name'] for each in facts['trainings'])}; protocol {facts['training']['protocol']}.",
        f"Features: {'not scaled' if scaling == 'none' else f'scaled ({scaling}) as on the training slides'}.",
        f"Tasks: {'; '.join(_asked(task, first['tasks'][task]) for task in facts['tasks'])}.",
    ]
    return "\n".join(f"- {markdown(item)}" for item in items)


def _asked(task: str, told: Mapping[str, Any]) -> str:
    classes = told["endpoint"].get("classes", ())
    return f"{task} ({told['kind']}{': ' if classes else ''}{', '.join(classes)})"


def _limits(facts: Mapping[str, Any]) -> str:
    encoder = facts["input"]["encoder"]
    items = [
        "For research. It is no medical device, and was not validated for decisions about patients.",
        "The scores are of the run's own cohort. Nothing here says how the model does on slides of another hospital, scanner "
        "or stain (`milbench evaluate` measures that).",
        f"Features must come from the same encoder{f' ({encoder})' if encoder else ''}, magnification and patch size. Others "
        "of the same width are taken without a word and answered wrongly.",
        "Thresholds and calibration move with the share of positive patients.",
    ]
    if facts["input"]["order_of_patches_matters"]:
        items.append(
            "The order of the patches changes the answer. Give them in the order in which they were extracted."
        )
    return "\n".join(f"- {markdown(item)}" for item in items)


def _declared(facts: Mapping[str, Any]) -> str:
    """What is known of the licence of the training data, in one line."""
    licence = str(facts["cohort"].get("licence", ""))
    if not licence:
        return "milbench does not know the licence of the training data."
    return f"The licence of the training data was declared as {visible_line(licence).rstrip('.')}."


def _licence(facts: Mapping[str, Any]) -> str:
    model = facts["model"]
    cite = " and ".join(filter(None, ("milbench", model["paper"].rstrip("."))))
    return (
        f"{markdown(_declared(facts))} It decides what may be done with these weights. Fill in their licence here and in the first "
        f"lines before you share them.\n\nCite {markdown(cite)}."
    )
