"""Section: what was found out about one thing, and what about it is broken; a look that fails is a section, too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from milbench.machine.deadline import begun


class Remark(NamedTuple):
    """A sentence on what was found, and what to do about it."""

    what: str
    fix: str


@dataclass(frozen=True)
class Section:
    """What was found out about one thing.

    Attributes
    ----------
    name : its label on the page, and its key in JSON.
    text : one paragraph.
    values : the same as plain values.
    broken : what does not work.
    notes : what works and is worth knowing.
    """

    name: str
    text: str
    values: Mapping[str, Any] = field(default_factory=dict)
    broken: tuple[Remark, ...] = ()
    notes: tuple[Remark, ...] = ()


class Look(NamedTuple):
    """A look at one thing: its section's name, how it is made, and the seconds that this may take."""

    name: str
    make: Callable[[], Section]
    seconds: float


def examined(looks: Sequence[Look]) -> list[Section]:
    """The section of each look. All look at the same time, and none can stop the others."""
    waiting = [(look, begun(look.make)) for look in looks]
    return [_of(look, wait) for look, wait in waiting]


def _of(look: Look, wait: Callable[[float], Section]) -> Section:
    try:
        return wait(look.seconds)
    except TimeoutError:
        reason = f"no answer within {look.seconds:g} s"
        return _unknown(look.name, reason, "Most likely a file system or a device hangs. Ask who runs this machine.")
    except Exception as error:  # noqa: BLE001 - whatever is broken here, the other sections are wanted
        reason = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
        return _unknown(look.name, reason, "Install milbench anew, or put this page into an issue.")


def _unknown(name: str, reason: str, fix: str) -> Section:
    text = f"could not be found out ({reason})"
    return Section(name, text, {"error": reason}, (Remark(f"{name}: {text}.", fix),))
