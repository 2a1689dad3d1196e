"""Devices: torch's build, the GPUs that it sees, and whether torchvision fits to it."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from milbench.commands.doctor.imports import failed, imported
from milbench.commands.doctor.requirements import installed, reinstall
from milbench.commands.doctor.section import Remark, Section
from milbench.machine.sizes import bytes_text

DRIVER = Path("/proc/driver/nvidia/version")
VISIBLE = "CUDA_VISIBLE_DEVICES"
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"


def devices() -> Section:
    """Build of torch, GPUs and their driver, and what of them does not work."""
    tries = imported(["torch", *(["torchvision"] if installed("torchvision") else [])])
    torch, vision = tries.get("torch", {}), tries.get("torchvision", {})
    facts, driver = torch.get("facts", {}), driver_version()
    values = {
        "torch": facts.get("version", installed("torch")),
        "cuda": facts.get("cuda"),
        "gpus": facts.get("gpus", []),
        "driver": driver,
        "torchvision": vision_build() or installed("torchvision"),
    }
    broken = (*failed({"torch": torch} if torch else {}), *_of_gpus(torch, driver))
    if "error" not in torch and "error" in vision:
        broken = (*broken, _of_vision(values, vision["error"]))
    return Section("torch", _text(values, torch, vision), values, broken, _of_build(facts, driver))


def driver_version(path: Path = DRIVER) -> str:
    """Version of the NVIDIA driver; "" if none is loaded."""
    try:
        found = re.search(r"\d+\.\d+(?:\.\d+)?", path.read_text(encoding="utf-8"))
    except OSError:
        return ""
    return found[0] if found else "unknown"


def vision_build() -> str:
    """Version and build of torchvision such as "0.28.0+cu130", read and not imported; "" if nobody tells.

    The version that pip shows may lack the build.
    """
    spec = importlib.util.find_spec("torchvision")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        file = Path(folder) / "version.py"
        found = (
            re.search(r"__version__ = ['\"](.+?)['\"]", file.read_text(encoding="utf-8")) if file.is_file() else None
        )
        if found:
            return found[1]
    return ""


def build(cuda: str | None) -> str:
    """What torch is built for, in words."""
    return f"CUDA {cuda}" if cuda else "CPUs only"


def _text(values: Mapping[str, Any], torch: Mapping[str, Any], vision: Mapping[str, Any]) -> str:
    of_torch = f"{values['torch'] or 'missing'}, " + (
        "fails at import" if "error" in torch else f"built for {build(values['cuda'])}"
    )
    of_vision = [f"torchvision {values['torchvision']}{' fails at import' * ('error' in vision)}"] * bool(vision)
    gpus = [_gpu_text(gpu) for gpu in values["gpus"]] or ["no GPU seen"]
    driver = f"NVIDIA driver {values['driver']}" if values["driver"] else "no NVIDIA driver"
    return "; ".join([of_torch, *of_vision, *gpus, driver])


def _gpu_text(gpu: Mapping[str, Any]) -> str:
    memory = f" {bytes_text(gpu['bytes'])}, compute capability {gpu['capability']}" if "bytes" in gpu else ""
    return f"{gpu['name']}{memory}{' fails' * bool(gpu['error'])}"


def _of_gpus(torch: Mapping[str, Any], driver: str) -> tuple[Remark, ...]:
    """GPUs that fail, and a driver whose GPUs this torch, which is built for them, does not see."""
    facts = torch.get("facts", {})
    found = [
        Remark(f"{gpu['name']} does not compute ({gpu['error']}).", "Use --device cpu, or fit torch to driver and GPU.")
        for gpu in facts.get("gpus", [])
        if gpu["error"]
    ]
    hidden = os.environ.get(VISIBLE, "0").strip() in ("", "-1")
    if driver and facts.get("cuda") and not facts["available"] and not hidden:
        reason = f" ({torch['warnings'][0]})" if torch.get("warnings") else ""
        what = f"torch for CUDA {facts['cuda']} sees no GPU, and the NVIDIA driver {driver} is loaded{reason}."
        found.append(Remark(what, "Update the driver, or install a torch that is built for an older CUDA."))
    return tuple(found)


def _of_build(facts: Mapping[str, Any], driver: str) -> tuple[Remark, ...]:
    if not driver or not facts or facts.get("cuda") or facts.get("hip"):
        return ()
    what = f"An NVIDIA driver ({driver}) is loaded, and this torch is built for CPUs only."
    return (Remark(what, f"To use the GPU: {reinstall('torch')}"),)


def _of_vision(values: Mapping[str, Any], error: str) -> Remark:
    """Both packages must come from one place, built alike: pip does not check that."""
    number = str(values["torchvision"]).partition("+")[0]
    what = (
        f"torchvision {values['torchvision']} does not fit torch {values['torch']}, built for {build(values['cuda'])}: "
        f"`import torchvision` fails ({error}). Encoders of timm need it (milbench features)."
    )
    place = "" if values["cuda"] else f" --index-url {CPU_WHEELS}"
    return Remark(what, f"pip install --force-reinstall --no-deps torchvision=={number}{place}")
