"""Report: tables, figures and one page on finished runs. A pure function of the stores: same stores, same bytes.

::

    runs ── start ── Outline ─┬─ figures_ahead ── figures ── .png .pdf
                              └─ finish (statistics, baselines, costs) ── Contents ─┬─ sheets ─── tables ─── .tex .csv .md
                                                                                    ├─ drawings ─ figures ── .png .pdf
                                                                                    └─ html ──────────────── index.html

In: run folders. Out: a folder of LaTeX, CSV, Markdown, figures and one page. Open `contents.py` first: everything that is
drawn or printed is in it. A table is a function in a module of its own, listed in `sheets.py`; a figure likewise, listed
in `drawings.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from milbench.errors import UsageError
from milbench.report.captions import tuned_before
from milbench.report.claim_tables import claim_frame, claim_tables
from milbench.report.contents import REFERENCE, Contents, finish, gather, start
from milbench.report.drawings import Drawn, drawing, undrawn
from milbench.report.figures_ahead import drawn_ahead
from milbench.report.floats import figure_float
from milbench.report.gain import gain_sentence
from milbench.report.html import KindBlock, PageData, Picture, page_data, render, write_index, write_script
from milbench.report.published import NOT_LIKE_FOR_LIKE, averages_sentence, published
from milbench.report.sheets import make_tables
from milbench.report.tables import Table, markdown, to_markdown
from milbench.report.texts import texts_of
from milbench.report.tuning_drawings import TUNING_FIGURES
from milbench.report.tuning_tables import tuned_sentence
from milbench.report.verdicts import Claim
from milbench.stats.draws import DRAWS
from milbench.store.files import write_atomically, writing
from milbench.store.run import Run

__all__ = ["DRAWS", "REFERENCE", "published", "write_report"]


def write_report(
    runs: Sequence[Run],
    out: Path,
    *,
    reference: str = REFERENCE,
    draws: int = DRAWS,
    complete_cases: bool = False,
    title: str = "",
    highlight: str = "",
    claims: Sequence[Claim] = (),
) -> Path:
    """The index page of a report on `runs`, written to the folder `out` with all that it names.

    Parameters
    ----------
    reference : registry name of the model that the others are compared with, declared beforehand.
    complete_cases : leave tasks that not all models finished out of means, instead of refusing.
    title : of the page; empty = the runs' names.
    highlight : registry name of a model that figures draw thicker than the others.
    claims : of the paper, judged on the stores; none unless the report is a study's.

    Raises
    ------
    UsageError : `out` is a run folder, or holds a page of something else.
    StoreError : no finished trial, two runs hold the same dataset, an incomplete grid, or `out` cannot be written.
    """
    _refuse_another_folder(out)
    begun = start(runs, reference=reference, highlight=highlight)
    title = title or ", ".join(run.name for run in runs)
    with drawn_ahead([one.outline for one in begun], out) as ahead:  # by copies of this process
        contents = finish(begun, reference=reference, draws=draws, complete_cases=complete_cases)
        with writing(out):
            _prepare(out)
            with drawing(contents, out, ahead) as drawn:  # likewise; this process goes on with texts meanwhile
                tables = [*make_tables(contents), *claim_tables(claims)]
                texts = {**texts_of(contents, tables), **_around(title, contents, tables, drawn)}
                for name, text in texts.items():
                    write_atomically(out / name, text.encode())
                write_script(out)
                page = "" if _shows_pictures(contents) else _page_text(title, contents, tables, drawn, out, claims)
    with writing(out):
        return write_index(out, page or _page_text(title, contents, tables, drawn, out, claims))


def _prepare(out: Path) -> None:
    """Make the report's folders, and delete what reports that were killed were writing there."""
    for folder in (out, out / "data"):
        folder.mkdir(parents=True, exist_ok=True)
        if any(path.name.startswith(".") for path in folder.iterdir()):
            from milbench.store.leftovers import abandoned, delete  # imports what nothing else in a report needs

            delete([path for path in abandoned(folder) if path.name.startswith(".")])


def _around(
    title: str, contents: Sequence[Contents], tables: Sequence[Table], drawn: Sequence[Drawn]
) -> dict[str, str]:
    """By place in the report's folder, the texts that put tables and figures into documents."""
    floats = {f"{figure.stem}.tex": figure_float(figure.stem, figure.caption) for figure in drawn}
    return {**floats, "report.tex": _document(tables, drawn), "index.md": _index(title, contents, tables, drawn)}


class Recomputed(NamedTuple):
    """A report in memory; its figures are not drawn again.

    Attributes
    ----------
    texts : numbers in text, by place in the report's folder.
    around : the texts that put them and the figures into documents, likewise.
    page : the text of `index.html`.
    figures : stems of the figures.
    """

    texts: dict[str, str]
    around: dict[str, str]
    page: str
    figures: tuple[str, ...]


def recompute(
    runs: Sequence[Run],
    pictures: Path,
    *,
    reference: str,
    draws: int,
    complete_cases: bool,
    title: str,
    highlight: str,
) -> Recomputed:
    """What `write_report` writes of the same runs, except figures; parameters and errors are the same.

    Parameters
    ----------
    pictures : folder of the report that was written, whose figures the page shows.
    """
    contents = gather(runs, reference=reference, draws=draws, complete_cases=complete_cases, highlight=highlight)
    tables, drawn = make_tables(contents), undrawn(contents)
    title = title or ", ".join(run.name for run in runs)
    page = _page_text(title, contents, tables, drawn, pictures, ())
    around = _around(title, contents, tables, drawn)
    return Recomputed(texts_of(contents, tables), around, page, tuple(figure.stem for figure in drawn))


def _shows_pictures(contents: Sequence[Contents]) -> bool:
    """Whether the page holds figures, and so must wait for them."""
    return any(one.kind != "binary" or one.searches for one in contents)


def _page_text(
    title: str,
    contents: Sequence[Contents],
    tables: Sequence[Table],
    drawn: Sequence[Drawn],
    out: Path,
    claims: Sequence[Claim],
) -> str:
    """The text of `index.html`, with the pictures of `drawn` that lie in `out`."""
    kinds = tuple(_block(one, tables, drawn, out) for one in contents if one.kind != "binary")
    sharing = [table for table in tables if table.name == "table3"]
    return render(_page(title, contents, kinds, claims, sharing, *_tuning(contents[0], tables, drawn, out)))


def _refuse_another_folder(out: Path) -> None:
    """UsageError if `out` holds a run, or a page that no report is."""
    what = "a run" if (out / "run.yaml").exists() else ""
    if (out / "index.html").exists() and not (out / "report.tex").exists():
        what = "an index.html of something else"
    if what:
        raise UsageError(f"{out} holds {what}. Name another folder with --out; nothing was written.")


def _block(contents: Contents, tables: Sequence[Table], drawn: Sequence[Drawn], out: Path) -> KindBlock:
    """What the page shows of the tasks of one kind: the same tables and figures."""
    pictures = [
        _picture(figure, out)
        for figure in drawn
        if figure.kind == contents.kind and not figure.stem.startswith("pareto_")
    ]
    mine = tuple(table for table in tables if table.kind == contents.kind)
    return KindBlock(contents.kind, contents.analysis, contents.scores, mine, tuple(pictures))


def _picture(figure: Drawn, out: Path) -> Picture:
    """The figure as it lies in `out`; empty if it was lost from a report that is looked at again."""
    path = out / f"{figure.stem}.png"
    return Picture(figure.stem, figure.caption, path.read_bytes() if path.is_file() else b"")


def _tuning(
    contents: Contents, tables: Sequence[Table], drawn: Sequence[Drawn], out: Path
) -> tuple[list[Table], list[Picture]]:
    """What the page shows of the searches for binary tasks; those of other kinds stand in the section of the kind."""
    if contents.kind != "binary" or not contents.searches:
        return [], []
    names = {"table2", *(f"tuning_{name}" for name in contents.searches)}
    stems = {f"{what}_{name}" for what in TUNING_FIGURES for name in contents.searches}
    return (
        [table for table in tables if table.name in names],
        [_picture(figure, out) for figure in drawn if figure.stem in stems],
    )


def _page(
    title: str,
    every: Sequence[Contents],
    kinds: Sequence[KindBlock],
    claims: Sequence[Claim],
    sharing: Sequence[Table],
    tuning_tables: Sequence[Table],
    tuning_pictures: Sequence[Picture],
) -> PageData:
    """The contents as one page to look at."""
    contents = every[0]
    is_binary = contents.kind == "binary"
    notes = [text for name, text in NOT_LIKE_FOR_LIKE.items() if is_binary and name in contents.datasets]
    if "average" in set(contents.beside_paper["cohort"]):
        notes += filter(None, (averages_sentence(table, contents.model_titles) for table in (2, 3)))
    notes += filter(
        None,
        (text.strip() for text in (tuned_sentence(contents), tuned_before(contents.datasets, contents.model_titles))),
    )
    if contents.gain is not None:
        notes.append(gain_sentence(contents.gain, contents.model_titles))
    return page_data(
        contents.runs,
        contents.analysis if is_binary else contents.analysis.without_rows(),
        title=f"Report: {title}",
        costs=contents.costs,
        baselines=contents.baselines if is_binary else None,
        kinds=kinds,
        sharing=sharing,
        tuning_tables=tuning_tables,
        tuning_pictures=tuning_pictures,
        published=published() if contents.whole else published().iloc[:0],
        notes=notes,
        highlight=contents.highlight,
        claims=claim_frame(claims),
    )


def _document(tables: Sequence[Table], drawn: Sequence[Drawn]) -> str:
    """A small LaTeX document with every table and figure, for a first look."""
    body = [rf"\input{{{table.name}}}" for table in tables]
    body += [r"\clearpage", *(rf"\input{{{figure.stem}}}" for figure in drawn)]
    return "\n".join([
        r"\documentclass[a4paper,landscape]{article}", r"\usepackage[margin=1.5cm]{geometry}",
        r"\usepackage[utf8]{inputenc}", r"\usepackage{booktabs}", r"\usepackage{graphicx}", r"\begin{document}",
        *body, r"\end{document}", "",
    ])  # fmt: skip


def _index(title: str, every: Sequence[Contents], tables: Sequence[Table], drawn: Sequence[Drawn]) -> str:
    """Markdown page with every table and figure."""
    lines = [f"# Report: {markdown(title)}", ""]
    for table in tables:
        lines += [f"## {table.name}", "", to_markdown(table), f"[LaTeX]({table.name}.tex), [CSV]({table.name}.csv)", ""]
    for figure in drawn:
        lines += [f"![{figure.stem}]({figure.stem}.png)", "", markdown(figure.caption), ""]
    for contents in every:
        if contents.gain is not None:
            lines += ["", markdown(gain_sentence(contents.gain, contents.model_titles))]
    failed = [f"{row['id']}: {row['type']}: {row['message']}" for run in every[0].runs for row in run.failures()]
    failures = [f"- {markdown(text)}" for text in failed]
    return "\n".join([*lines, "", *(["## Failed trials", "", *failures, ""] if failures else [])])
