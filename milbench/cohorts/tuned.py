"""Tuned settings: what a search chose for each model on a cohort, as `milbench tune` writes it and a cohort takes it.

::

    cohort: digits
    configurations: 24
    command: milbench tune --datasets digits --configurations 24
    made: 2026-11-28, milbench 0.1
    models:
      amil: {configuration: 7, trainer: {lr: 0.00312}, model: {dropout: 0.25}}
      dsmil:
        tasks:                       # where each task was tuned apart
          TP53: {configuration: 3, trainer: {lr: 0.001}, model: {}}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from milbench.errors import DataError
from milbench.search_space import Configuration
from milbench.special_files import refuse_special
from milbench.store.plain_yaml import plain_yaml

KEYS = ("cohort", "configurations", "command", "made", "models")


@dataclass(frozen=True)
class TunedSettings:
    """Chosen settings of the models of one cohort.

    Attributes
    ----------
    configurations : how many each model had to choose from; the same for all.
    chosen : configuration by model and task; the task is "" where one was chosen for all tasks.
    cohort, command, made : of the search.
    """

    configurations: int
    chosen: Mapping[tuple[str, str], Configuration]
    cohort: str = ""
    command: str = ""
    made: str = ""

    def of(self, model: str, task: str) -> Configuration | None:
        """Configuration of the model for a task; None if none was chosen."""
        return self.chosen.get((model, task)) or self.chosen.get((model, ""))

    @property
    def models(self) -> list[str]:
        """Models that have chosen settings, in the file's order."""
        return list(dict.fromkeys(model for model, _ in self.chosen))

    def __str__(self) -> str:
        return f"tuned, {self.configurations} configurations per model"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as the file holds them."""
        models: dict[str, Any] = {}
        for (model, task), each in self.chosen.items():
            if task:
                models.setdefault(model, {"tasks": {}})["tasks"][task] = each.as_dict()
            else:
                models[model] = each.as_dict()
        told = {
            "cohort": self.cohort,
            "configurations": self.configurations,
            "command": self.command,
            "made": self.made,
        }
        return {**told, "models": models}

    def to_yaml(self) -> str:
        """The file's text."""
        return yaml.safe_dump(self.as_dict(), sort_keys=False, allow_unicode=True, width=120)


def read_tuned(path: Path) -> TunedSettings:
    """The chosen settings in a file that `milbench tune` wrote.

    Raises
    ------
    DataError : the file cannot be read, or holds something else.
    """
    refuse_special(path, DataError)
    try:
        values = plain_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path} cannot be read as YAML: {error}.") from error
    return tuned_from(values, path)


def tuned_from(values: Any, path: Path) -> TunedSettings:
    """The settings that parsed YAML describes; raises `DataError` as `read_tuned`."""
    if not isinstance(values, Mapping) or not isinstance(values.get("models"), Mapping):
        raise DataError(
            f"{path} holds no chosen settings. Expected a file that `milbench tune` wrote, with a section models."
        )
    for key in values:
        if key not in KEYS:
            raise DataError(f"{path} has the key '{key}'; expected {', '.join(KEYS)}.")
    n = values.get("configurations")
    if type(n) is not int or n < 1:
        raise DataError(f"{path}: configurations is {n!r}; expected how many each model had to choose from.")
    chosen = dict(_chosen(values["models"], path))
    for (model, _), each in chosen.items():
        if not 0 <= each.number < n:
            raise DataError(
                f"{path}: models.{model} has configuration {each.number}, and the search had {n}, numbered from 0. If the file "
                "was edited, write it anew: run the search's command again."
            )
    texts = {key: str(values.get(key, "")) for key in ("cohort", "command", "made")}
    return TunedSettings(n, chosen, **texts)


def _chosen(models: Mapping[Any, Any], path: Path) -> Iterator[tuple[tuple[str, str], Configuration]]:
    for model, given in models.items():
        by_task = given.get("tasks") if isinstance(given, Mapping) else None
        if by_task is None:
            yield (str(model), ""), _configuration(given, f"{path}: models.{model}")
        elif isinstance(by_task, Mapping):
            for task, each in by_task.items():
                yield (str(model), str(task)), _configuration(each, f"{path}: models.{model}.tasks.{task}")
        else:
            raise DataError(f"{path}: models.{model}.tasks is {by_task!r}; expected a section with a line per task.")


def _configuration(values: Any, where: str) -> Configuration:
    given = dict(values) if isinstance(values, Mapping) else {}
    number, trainer, model = given.pop("configuration", 0), given.pop("trainer", {}), given.pop("model", {})
    is_right = type(number) is int and isinstance(trainer, Mapping) and isinstance(model, Mapping)
    if not isinstance(values, Mapping) or given or not is_right:
        raise DataError(f"{where} is {values!r}; expected configuration, trainer and model.")
    return Configuration(number, *({str(key): value for key, value in section.items()} for section in (trainer, model)))
