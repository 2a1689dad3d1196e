#!/usr/bin/env bash
# Versions   rocrate 0.16.0 (public package from PyPI, without milbench)
# Behaviour  A crate declares terms of its own in @context, which is how a metric such as AUROC gets a meaning beside the words
#            of schema.org. rocrate reads the crate and writes it again. The values stay and the declarations are gone:
#            @context holds the address of RO-Crate alone. There is no error and no warning. JSON-LD ignores keys that
#            @context does not declare, so to its readers the values are gone, too.
# A guess    would be that a crate which is read and written is the same crate.
# Seen       written: ['https://w3id.org/ro/crate/1.3/context', {'auroc': 'https://example.org/terms#auroc'}], "auroc": 0.81
#            written again: https://w3id.org/ro/crate/1.3/context, "auroc": 0.81
# Known as   ResearchObject/ro-crate-py issue 61, open
# Exits 0 while the library behaves so, and 1 if it does not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check rocrate==0.16.0
"$folder/venv/bin/python" -W ignore - "$folder" <<'PYTHON'
import json
import sys
from pathlib import Path

from rocrate.rocrate import ROCrate

folder = Path(sys.argv[1])
AUROC = "https://example.org/terms#auroc"


def context_and_auroc(crate):
    """What the metadata of a crate on disk declare, and the value on the crate itself."""
    metadata = json.loads((crate / "ro-crate-metadata.json").read_text())
    (root,) = (entity for entity in metadata["@graph"] if entity["@id"] == "./")
    return metadata["@context"], root["auroc"]


crate = ROCrate()
crate.name = "a run"
crate.metadata.extra_terms["auroc"] = AUROC
crate.root_dataset["auroc"] = 0.81
crate.write(folder / "written")
ROCrate(folder / "written").write(folder / "again")

(first, value), (second, value_again) = (context_and_auroc(folder / name) for name in ("written", "again"))
print(f"written: {first}, auroc {value}")
print(f"written again: {second}, auroc {value_again}")
as_seen = {"auroc": AUROC} in first and AUROC not in json.dumps(second) and value == value_again == 0.81
sys.exit(0 if as_seen else "rocrate now writes the terms of a crate otherwise: look again")
PYTHON
