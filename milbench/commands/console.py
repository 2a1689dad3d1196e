"""Console: rich's, for text that others wrote."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from milbench.visible import visible


class PlainConsole(Console):
    """A console that prints names as they are written, in lines and in tables, and hides no character of them.

    Rich alone would take `[IHC]` for markup and `:x:` for a picture, and would pass an escape character on.
    """

    def __init__(self, width: int | None = None) -> None:
        super().__init__(width=width, highlight=False, markup=False, emoji=False)

    def render_str(self, text: str, **how: Any) -> Text:
        """What rich calls for every text that it is given."""
        return super().render_str(visible(text), **how)
