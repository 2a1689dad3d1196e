"""Crate: RO-Crate metadata of a bundle, so that repositories and search engines understand what it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from milbench.bundles.layout import CITATION, CRATE, NOT_DECLARED, README, REPORT, Header
from milbench.bundles.seal import files_in
from milbench.errors import UsageError
from milbench.store.files import file_sha256, json_bytes

CRATE_VERSION = "1.1"
"""Of the specification: the one that most readers know."""

MEANS_SHA256 = {"sha256": "https://schema.org/sha256"}
"""The word is younger than the version of the specification."""

KINDS = {
    ".csv": "text/csv", ".html": "text/html", ".js": "text/javascript", ".json": "application/json", ".md": "text/markdown",
    ".parquet": "application/vnd.apache.parquet", ".pdf": "application/pdf", ".png": "image/png", ".tex": "text/x-tex",
    ".yaml": "application/yaml",
}  # fmt: skip
"""By suffix. The system's own list differs from machine to machine."""

NAMES = {
    README: "What this bundle is and how to check it",
    CITATION: "How to cite this bundle",
    f"{REPORT}/index.html": "The report as one page",
}


def write_crate(root: Path, header: Header) -> None:
    """Write `ro-crate-metadata.json` on every file of the folder, each with its size and SHA-256.

    The package makes the entities and copies nothing: its own copying keeps one of two files of one name. The date is the
    run's and entities are sorted, so that the same run gives the same bytes.

    Raises
    ------
    UsageError : the package `rocrate` is not installed.
    """
    try:
        from rocrate.rocrate import ROCrate
    except ImportError as error:
        raise UsageError("RO-Crate metadata need a package more: pip install 'milbench[bundle]'.") from error
    crate: Any = ROCrate(gen_preview=False, version=CRATE_VERSION)
    crate.name, crate.description = header.title, description(header)
    crate.datePublished = header.finished_at
    crate.root_dataset["license"] = (
        header.licence if header.licence != NOT_DECLARED else "not declared: ask the authors"
    )
    if header.authors:
        crate.root_dataset["author"] = [{"@id": f"#author-{place}"} for place, _ in enumerate(header.authors, start=1)]
        for place, name in enumerate(header.authors, start=1):
            crate.add_jsonld({"@id": f"#author-{place}", "@type": "Person", "name": name})
    for name in files_in(root):
        crate.add_file(str(root / name), dest_path=name, properties=_properties(root / name, name))
    metadata = crate.metadata.generate()
    metadata["@context"] = [metadata["@context"], MEANS_SHA256]
    metadata["@graph"] = sorted((_sorted_parts(each) for each in metadata["@graph"]), key=lambda each: str(each["@id"]))
    (root / CRATE).write_bytes(json_bytes(metadata))


def description(header: Header) -> str:
    """What the bundle holds, in a sentence."""
    return (
        f"Predictions, splits, settings and report of the milbench run {header.run}, "
        "from which every number of its tables can be recomputed with `milbench verify`."
    )


def _properties(path: Path, name: str) -> dict[str, Any]:
    kind = KINDS.get(path.suffix)
    return {
        "name": NAMES.get(name, path.name),
        "contentSize": str(path.stat().st_size),
        "sha256": file_sha256(path),
        **({"encodingFormat": kind} if kind else {}),
    }


def _sorted_parts(entity: dict[str, Any]) -> dict[str, Any]:
    parts = entity.get("hasPart")
    return {**entity, "hasPart": sorted(parts, key=lambda part: part["@id"])} if isinstance(parts, list) else entity
