"""Reading: the two texts of a bundle that people open first: `README.md` and `CITATION.cff`."""

from __future__ import annotations

import yaml

from milbench.bundles.layout import CHECKSUMS, CRATE, HEADER, REPORT, Header
from milbench.visible import visible_line


def readme(header: Header) -> str:
    """What the bundle is, how to check it and what it leaves out."""
    run, title = visible_line(header.run), visible_line(header.title)
    ids = (
        "Ids of slides and patients are keyed hashes. The key is not in this bundle."
        if header.anonymised
        else "Slides and patients have the ids that the run had."
    )
    weights = "Trained weights lie beside the predictions." if header.weights else "There are no trained weights."
    lines = [
        f"# {title}", "",
        f"This bundle holds the milbench run `{run}`, made with milbench {visible_line(header.milbench)}.", "",
        "Check it, without the data and without a GPU:", "",
        "```bash", "milbench verify .", "```", "",
        "| file | is |", "|---|---|",
        f"| `{REPORT}/index.html` | the report as one page; it opens offline |",
        f"| `{REPORT}/` | its tables as CSV, LaTeX and Markdown, its figures, and the numbers behind them |",
        f"| `runs/{run}/` | the run: plan, settings, environment, splits, labels, and the predictions of every trial |",
        f"| `{HEADER}` | how this bundle was made |",
        f"| `{CHECKSUMS}` | SHA-256 of every file; `sha256sum -c {CHECKSUMS}` reads it |",
        f"| `{CRATE}` | the same for repositories (RO-Crate) |", "",
        f"{ids} {weights} There are no slides and no features, and no folder, user or host of the machine that made them.", "",
        f"Licence of the data: {visible_line(header.licence)}.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def citation(header: Header) -> str:
    """How to cite the bundle, in the Citation File Format."""
    authors = header.authors or (f"The authors of the run {header.run}",)
    told = {
        "cff-version": "1.2.0",
        "message": "If you use these results, please cite this bundle, and the papers of the models that it compares.",
        "title": header.title,
        "type": "dataset",
        "date-released": header.finished_at[:10],
        "authors": [{"name": author} for author in authors],
        "references": [
            {
                "type": "software",
                "title": "milbench",
                "version": header.milbench,
                "license": "MIT",
                "authors": [{"name": "The milbench founders"}],
            }
        ],
    }
    return str(yaml.safe_dump(told, sort_keys=False, allow_unicode=True))
