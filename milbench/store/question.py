"""Question: what a run folder asks of a dataset now, and whether a stored trial answers it.

Labels, features, the split or settings may change between two commands on one run folder. What was trained before
answers another question: it stays on disk, and no table, figure or tracked run may mix it with the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

DATA = {"split_sha256": "another split", "feature_scaling": "another feature scaling"}
"""What all trials of a dataset share beside labels and features, and how a trial with another one is called."""

SETTINGS = ("format", "model_version", "precision", "recipe", "hyperparameters")
"""What all trials of a model share."""

OPTIONAL = "optional_labels_sha256"

OF_SOME_TRIALS = frozenset({"class_weights", "task_weights", "sampler", "label_smoothing"})
"""Settings that stand in a trial's recipe only if they change something for its tasks: trials of one model may differ in
them and answer one question. A trial with another one is not what the plan asks for, since its key is another."""

SECTIONS = {"recipe": "trainer", "hyperparameters": "model"}
"""Settings that are sections, by the name that users give them."""


@dataclass(frozen=True)
class Question:
    """What is asked of one dataset.

    Attributes
    ----------
    fingerprint, split_sha256, feature_scaling : as in a trial's identity.
    labels_sha256 : the labels' part of the fingerprint, to say which part changed; "" = not recorded.
    models : settings by model name; a model that is not listed may have any.
    optional_labels_sha256 : by optional task, which no fingerprint covers, as in a trial's identity.
    """

    fingerprint: str
    split_sha256: str
    feature_scaling: str
    labels_sha256: str = ""
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    optional_labels_sha256: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; optional tasks are left out where there are none."""
        values = asdict(self)
        return values if self.optional_labels_sha256 else {k: v for k, v in values.items() if k != OPTIONAL}

    def asks_the_same_data(self, other: Question) -> bool:
        """Whether both ask about the same labels, features, split and scaling."""
        return self.fingerprint == other.fingerprint and all(getattr(self, key) == getattr(other, key) for key in DATA)


@dataclass(frozen=True)
class Asked:
    """The question of a dataset now, and those that the folder was asked before."""

    now: Question
    former: tuple[Question, ...] = ()

    def then(self, question: Question) -> Asked:
        """What is asked once `question` is. Models that it does not list keep their settings if the data stay."""
        if question.asks_the_same_data(self.now):
            models = {**self.now.models, **question.models}
            labels = {**self.now.optional_labels_sha256, **question.optional_labels_sha256}
            return replace(self, now=replace(question, models=models, optional_labels_sha256=labels))
        others = [each for each in (*self.former, self.now) if not each.asks_the_same_data(question)]
        return Asked(question, tuple(others))

    def differences(self, info: Mapping[str, Any]) -> tuple[str, ...]:
        """What a trial was trained on that is not asked any more, in words; empty if the trial answers the question.

        Parameters
        ----------
        info : what the trial's `trial.json` holds.
        """
        found = [] if info.get("fingerprint") == self.now.fingerprint else [self._other_data(info)]
        found += [words for key, words in DATA.items() if info.get(key) != getattr(self.now, key)]
        found += ["other labels"] * any(
            self.now.optional_labels_sha256.get(task, sha256) != sha256
            for task, sha256 in info.get("labels_sha256", {}).items()
        )
        return (*found, *settings_changed(info, self.now.models.get(str(info.get("model")), {})))

    def _other_data(self, info: Mapping[str, Any]) -> str:
        theirs = [each for each in self.former if each.fingerprint == info.get("fingerprint")]
        if not theirs or not theirs[0].labels_sha256 or not self.now.labels_sha256:
            return "other labels or features"
        return "other features" if theirs[0].labels_sha256 == self.now.labels_sha256 else "other labels"


@dataclass(frozen=True)
class StaleTrial:
    """A trial on disk that answers another question than the one asked now.

    Attributes
    ----------
    path : its folder.
    info : what `trial.json` holds.
    other : what it was trained on that is not asked any more, in words.
    """

    id: str
    path: Path
    info: Mapping[str, Any]
    other: tuple[str, ...]


def differences(asked: Mapping[str, Asked], info: Mapping[str, Any]) -> tuple[str, ...]:
    """What a trial was trained on that is not asked any more, in words; empty if it answers what is asked now.

    Parameters
    ----------
    info : what the trial's `trial.json` holds; an empty one is taken for an answer.
    """
    dataset = str(info.get("dataset"))
    return asked[dataset].differences(info) if dataset in asked else ()


def stale_sentences(trials: Iterable[StaleTrial]) -> list[str]:
    """ "7 trials of other labels and another split, last used 2026-11-28" for every kind of stale trial."""
    kinds: dict[tuple[str, ...], list[str]] = {}
    for trial in trials:
        kinds.setdefault(trial.other, []).append(str(trial.info.get("finished_at", ""))[:10])
    return [
        f"{len(days)} {'trial' if len(days) == 1 else 'trials'} of {' and '.join(other)}, last used {max(days) or 'at an unknown time'}"
        for other, days in kinds.items()
    ]


def settings_of(info: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in a trial's identity or record that all trials of its model share."""
    return {key: info[key] for key in SETTINGS if key in info}


def settings_changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Settings that differ, such as "trainer.epochs 4 -> 2"; only those that both sides state."""
    changed: list[str] = []
    for key in SETTINGS:
        if key not in before or key not in now or before[key] == now[key]:
            continue
        if key in SECTIONS:
            changed += entries_changed(SECTIONS[key], before[key], now[key])
        else:
            changed.append(f"{key.replace('_', ' ')} {before[key]} -> {now[key]}")
    return changed


def entries_changed(section: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """ "trainer.epochs 4 -> 2" for every entry of a section that differs."""
    for key in sorted({*before, *now}):
        if key not in OF_SOME_TRIALS and before.get(key) != now.get(key):
            yield f"{section}.{key} {before.get(key, 'not set')} -> {now.get(key, 'not set')}"


def asked_from_json(values: Mapping[str, Any]) -> dict[str, Asked]:
    """Questions by dataset, as `asked_to_json` wrote them."""
    return {name: Asked(_question(each["now"]), tuple(map(_question, each["former"]))) for name, each in values.items()}


def _question(values: Mapping[str, Any]) -> Question:
    """What a newer version may have written beside the known keys is left out."""
    known = {f.name for f in fields(Question)}
    return Question(**{key: value for key, value in values.items() if key in known})


def asked_to_json(asked: Mapping[str, Asked]) -> dict[str, Any]:
    """Plain values."""
    return {
        name: {"now": each.now.as_dict(), "former": [former.as_dict() for former in each.former]}
        for name, each in asked.items()
    }


def asked_of_old_folder(
    datasets: Mapping[str, Mapping[str, Any]], trainer: Mapping[str, Any], infos: Iterable[Mapping[str, Any]]
) -> dict[str, Asked]:
    """Questions of a folder that recorded none: its cohorts as described last, and each model as trained last.

    Parameters
    ----------
    datasets : what `datasets.json` holds.
    trainer : settings of the run, which win over those of a cohort.
    infos : records of all planned trials on disk.
    """
    questions = {
        name: Question(facts["fingerprint"], facts["split_sha256"], facts["scaling"])
        for name, facts in datasets.items()
        if {"fingerprint", "split_sha256", "scaling"} <= facts.keys()
    }
    latest: dict[str, dict[str, Mapping[str, Any]]] = {name: {} for name in questions}
    for info in sorted(infos, key=lambda info: str(info.get("finished_at"))):
        if info.get("dataset") in latest and not Asked(questions[info["dataset"]]).differences(info):
            latest[info["dataset"]][info["model"]] = settings_of(info)
    for name, models in latest.items():
        expected = {**datasets[name].get("trainer_defaults", {}), **trainer}
        kept = {model: _with_defaults(settings, expected) for model, settings in models.items()}
        questions[name] = replace(questions[name], models=kept)
    return {name: Asked(question) for name, question in questions.items()}


def _with_defaults(settings: Mapping[str, Any], expected: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a model, with those of its cohort where its recipe is the study's, which follows cohorts."""
    recipe = settings.get("recipe", {})
    if recipe.get("name") != "m4":
        return dict(settings)
    return {**settings, "recipe": {**recipe, **{key: value for key, value in expected.items() if key in recipe}}}
