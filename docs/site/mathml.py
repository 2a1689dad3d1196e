"""Formulas as MathML: the page holds them, so that no script and no network is needed to show them."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml


def _inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(_made(node, is_block=False))
    raise nodes.SkipNode


def _block(translator: Any, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="math">{_made(node, is_block=True)}</div>')
    raise nodes.SkipNode


def _made(node: nodes.Element, *, is_block: bool) -> str:
    try:
        made: str = tex2mathml(node.astext(), as_block=is_block)
    except MathError as error:
        raise ValueError(f"the formula {node.astext()!r} cannot be shown: {error}") from error
    return made


def setup(app: Any) -> dict[str, bool]:
    """Make `mathml` known to Sphinx as a way to show formulas."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
