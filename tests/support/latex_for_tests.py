"""LaTeX of a report, as a user compiles it."""

from __future__ import annotations

import subprocess
from pathlib import Path


def compile_latex(folder: Path) -> Path:
    """The PDF of `report.tex` in the folder."""
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "report.tex"]
    result = subprocess.run(command, cwd=folder, capture_output=True, timeout=120)
    assert result.returncode == 0, result.stdout.decode(errors="replace")[-2000:]
    return folder / "report.pdf"
