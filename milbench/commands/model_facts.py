"""Model facts: what the list of models and their pages print, as plain values that can be kept (`kept_facts.py`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from milbench.commands.model_header import header_of

if TYPE_CHECKING:
    from milbench.models import MILModel


class ModelRow(NamedTuple):
    """A model's line in the list.

    Attributes
    ----------
    tasks : "single" or "multi".
    groups : words of `--models` that ask for it, besides "all".
    """

    name: str
    title: str
    tasks: str
    paper: str
    groups: tuple[str, ...]


@dataclass(frozen=True)
class ModelPage:
    """A model's page, except its cost and what `milbench check` showed of it; all values as they are printed.

    Attributes
    ----------
    learns : "one model per task", or for all tasks.
    facts : what and its text, such as ("kinds of tasks", "binary, multiclass").
    differs : what differs from the official code.
    arguments : setting, default and what a search draws.
    """

    name: str
    title: str
    learns: str
    facts: tuple[tuple[str, ...], ...]
    differs: tuple[str, ...]
    arguments: tuple[tuple[str, ...], ...]

    def as_json(self) -> dict[str, Any]:
        """The page for a file; `page_from_json` reads it."""
        return asdict(self)


def page_from_json(values: Mapping[str, Any]) -> ModelPage:
    """The page that `ModelPage.as_json` wrote."""
    lines = {key: tuple(map(tuple, values[key])) for key in ("facts", "arguments")}
    return ModelPage(values["name"], values["title"], values["learns"], differs=tuple(values["differs"]), **lines)


def rows_from_json(values: Sequence[Sequence[Any]]) -> list[ModelRow]:
    """The list's lines as a file holds them."""
    return [ModelRow(name, title, tasks, paper, tuple(groups)) for name, title, tasks, paper, groups in values]


def rows_of(known: Mapping[str, type[MILModel]], groups: Mapping[str, Iterable[str]]) -> list[ModelRow]:
    """The list's lines, in the order of `known`; `groups` are names by word."""
    words = groups_by_name(groups)
    return [
        ModelRow(name, model.info.title, model.info.tasks, model.info.paper, tuple(words[name]))
        for name, model in known.items()
    ]


def page_of(name: str, model: type[MILModel], groups: Sequence[str]) -> ModelPage:
    """The page of a model; `groups` are words of `--models` that ask for it, besides "all"."""
    learns = "one model for all tasks" if model.info.tasks == "multi" else "one model per task"
    differs = tuple(header_of(model).get("differs", ()))
    return ModelPage(
        name, model.info.title, learns, tuple(_facts(model, groups)), differs, tuple(_arguments(name, model))
    )


def _facts(model: type[MILModel], groups: Sequence[str]) -> list[tuple[str, str]]:
    info, header = model.info, header_of(model)
    official = ", ".join(f"{key} {value}" for key, value in info.official_recipe.items())
    rows = [
        ("groups", ", ".join(groups)),
        ("paper", _text(header.get("paper", ())) or info.paper),
        ("official code", _text(header.get("code", ())) or info.official),
        ("kinds of tasks", ", ".join(info.kinds)),
        ("order of patches", "changes the output" if info.order_matters else "does not matter"),
        ("coordinates", "needed" if info.needs_coords else "not needed"),
        ("official recipe", official or "none declared"),
    ]
    return [(what, text) for what, text in rows if text]


def _text(entries: Sequence[str]) -> str:
    """The entries as one text; "" if the header says that there is nothing."""
    text = " ".join(entries)
    return "" if text == "none" else text


def _arguments(name: str, model: type[MILModel]) -> list[tuple[str, str, str]]:
    """The arguments with their defaults, and what a search draws."""
    from milbench.trials.arguments import constructor_arguments
    from milbench.trials.configurations import space_of

    arguments = constructor_arguments(model)
    space = dict(space_of(name, model, {}).rows())
    rows = [(f"model.{key}", str(value), space.pop(f"model.{key}", "-")) for key, value in arguments.items()]
    return [*rows, *((key, "the recipe's", draw) for key, draw in space.items())]


def groups_by_name(groups: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Words of the groups that each model is in, by the model's name."""
    found: dict[str, list[str]] = {}
    for word, names in groups.items():
        for name in names:
            found.setdefault(name, []).append(word)
    return found
