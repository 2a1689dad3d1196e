"""Floats: a figure as LaTeX, with caption and label, for a paper to take in."""

from __future__ import annotations

from milbench.report.latex import latex


def figure_float(stem: str, caption: str) -> str:
    """LaTeX of a float with the picture `stem`.pdf, no higher than a page with its caption."""
    size = r"width=\linewidth,height=0.75\textheight,keepaspectratio"
    return "\n".join([
        r"\begin{figure}[htbp]", r"\centering", rf"\includegraphics[{size}]{{{stem}.pdf}}",
        rf"\caption{{{latex(caption)}}}", rf"\label{{fig:{stem}}}", r"\end{figure}", "",
    ])  # fmt: skip
