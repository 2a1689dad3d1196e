"""Folders of features as every extractor writes them, written here with h5py, NumPy and torch alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import torch
from zarr_stores import write_tiatoolbox, write_wsidata


class Slide(NamedTuple):
    """What a test puts into a file; coordinates in whole level-0 pixels of 256 px patches."""

    features: np.ndarray
    coords: np.ndarray


class Expected(NamedTuple):
    """How a layout hands coordinates back: its unit and a factor; None = it stores none."""

    name: str
    unit: str | None
    factor: float = 1.0
    patch_size: float | None = None
    encoder: str = ""
    magnification: float | None = None
    mpp: float | None = None
    weights_sha256: str = ""
    transform: str = ""


PIXELS, CENTRES, MICROMETRES, UNKNOWN = "level-0 px", "level-0 px, patch centres", "µm", "unit unknown"
TILES = "tiles"


def clam_h5(root: Path, slides: dict[str, Slide]) -> tuple[Path, Expected]:
    (root / "h5_files").mkdir(parents=True)
    for name, slide in slides.items():
        with h5py.File(root / "h5_files" / f"{name}.h5", "w") as file:
            file["features"], file["coords"] = slide.features, slide.coords.astype(np.int32)
    return root, Expected("CLAM", PIXELS)


def clam_pt(root: Path, slides: dict[str, Slide]) -> tuple[Path, Expected]:
    (root / "pt_files").mkdir(parents=True)
    for name, slide in slides.items():
        torch.save(torch.from_numpy(slide.features), root / "pt_files" / f"{name}.pt")
    return root, Expected("CLAM", None)


def clam_hdf5(root: Path, slides: dict[str, Slide]) -> tuple[Path, Expected]:
    root.mkdir(parents=True)
    for name, slide in slides.items():
        with h5py.File(root / f"{name}.hdf5", "w") as file:
            file["features"], file["coords"] = slide.features, slide.coords.astype(np.int32)
    return root, Expected("CLAM", PIXELS)


def clam_sites(root: Path, slides: dict[str, Slide]) -> tuple[Path, Expected]:
    """One folder per site, and the size of a patch in the patching step's folder."""
    (root / "patches").mkdir(parents=True)
    for number, (name, slide) in enumerate(slides.items()):
        folder = root / "encoder" / f"site {number}"
        folder.mkdir(parents=True)
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file["features"], file["coords"] = slide.features, slide.coords.astype(np.int32)
        with h5py.File(root / "patches" / f"{name}.h5", "w") as file:
            file["coords"] = slide.coords.astype(np.int64)
            file["coords"].attrs.update({"patch_size": 256, "patch_level": 1, "downsample": (2.0, 2.0)})
    return root, Expected("CLAM", PIXELS, patch_size=512.0)


TRIDENT_JOB = "20x_256px_0px_overlap"
TRIDENT_ATTRIBUTES = {
    "patch_size": 256,
    "patch_size_level0": 512,
    "level0_magnification": 40,
    "target_magnification": 20,
    "overlap": 0,
    "level0_width": 100_000,
    "level0_height": 80_000,
    "name": "None",
}


def trident_h5(root: Path, slides: dict[str, Slide]) -> tuple[Path, Expected]:
    folder = root / TRIDENT_JOB / "features_uni_v1"
    folder.mkdir(parents=True)
    for name, slide in slides.items():
        with h5py.File(folder / f"{name}.h5", "w") as file:
            width = slide.features.shape[1]
            stored = file.create_dataset("features", data=slide.features, chunks=(1, width), maxshape=(None, width))
            stored.attrs["encoder"] = "uni_v1"
            coords = file.create_dataset(
                "coords", data=slide.coords.astype(np.int64), chunks=(1, 2), maxshape=(None, 2)
            )
            coords.attrs.update(TRIDENT_ATTRIBUTES)
    return folder, Expected("TRIDENT", PIXELS, patch_size=512.0, encoder="uni_v1", magnification=20.0)


def trident_patches(root: Path, slides: dict[str, Slide]) -> tuple[Path, Expected]:
    """Coordinates in the patching step's folder only, and no attribute but the text None."""
    job = root / TRIDENT_JOB
    (job / "patch_features_conch_v15").mkdir(parents=True)
    (job / "patches").mkdir()
    for name, slide in slides.items():
        with h5py.File(job / "patch_features_conch_v15" / f"{name}.h5", "w") as file:
            file.create_dataset("features", data=slide.features).attrs["encoder"] = "None"
        with h5py.File(job / "patches" / f"{name}_patches.h5", "w") as file:
            file["coords"] = slide.coords.astype(np.int64)
            file["coords"].attrs.update({**TRIDENT_ATTRIBUTES, "target_magnification": "None"})
    return root, Expected("TRIDENT", PIXELS, patch_size=512.0, encoder="conch_v15", magnification=20.0)


def trident_pt(root: Path, slides: dict[str, Slide]) -> tuple[Path, Expected]:
    folder = root / TRIDENT_JOB / "features_resnet50"
    folder.mkdir(parents=True)
    for name, slide in slides.items():
        torch.save(slide.features, folder / f"{name}.pt")
    return folder, Expected("TRIDENT", None, encoder="resnet50", magnification=20.0)


def _stamp(root: Path, slides: dict[str, Slide], attributes: dict[str, object], factor: float) -> Path:
    root.mkdir(parents=True)
    for name, slide in slides.items():
        with h5py.File(root / f"{name}.h5", "w") as file:
            file["feats"], file["coords"] = slide.features, (slide.coords * factor).astype(np.float32)
            file.attrs.update(attributes)
    return root


TRANSFORM = '{"mean": [0.485, 0.456, 0.406], "size": 224, "std": [0.229, 0.224, 0.225]}'
WEIGHTS = "5e" * 32


def write_extracted(
    path: Path, slide: Slide, encoder: str = "retccl", mpp: float = 0.5, weights: str = WEIGHTS
) -> None:
    """A file of `milbench features`, of patches of 256 pixels at `mpp`."""
    with h5py.File(path, "w") as file:
        file.attrs.update(
            {"milbench_features": 1, "slide_id": path.stem, "slide_file": f"{path.stem}.svs", "grid": "slide"}
        )
        file["features"], file["coords"] = slide.features, slide.coords.astype(np.int64)
        file["features"].attrs.update({"encoder": encoder, "weights_sha256": weights, "transform": TRANSFORM})
        file["coords"].attrs.update({"patch_size_level0": 512, "patch_size": 256, "mpp": mpp, "level0_mpp_x": mpp / 2})


def extracted(root: Path, slides: dict[str, Slide]) -> tuple[Path, Expected]:
    """With the settings of all files and pictures of the slides beside them."""
    (root / "sheets").mkdir(parents=True)
    told = {"milbench_features": 1, "encoder": "retccl", "weights_sha256": WEIGHTS, "mpp": 0.5, "patch_size": 256}
    (root / "features.json").write_text(json.dumps({**told, "transform": json.loads(TRANSFORM)}))
    for name, slide in slides.items():
        write_extracted(root / f"{name}.h5", slide)
        (root / "sheets" / f"{name}.png").touch()
    return root, Expected("milbench features", PIXELS, patch_size=512.0, encoder="retccl", mpp=0.5, weights_sha256=WEIGHTS,
                          transform=TRANSFORM)  # fmt: skip


def stamp_today(root: Path, slides: dict[str, Slide]) -> tuple[Path, Expected]:
    attributes = {
        "stamp_version": "2.3.0",
        "extractor": "uni2",
        "unit": "um",
        "tile_size_um": 256.0,
        "tile_size_px": 224,
        "feat_type": "tile",
    }
    return _stamp(root, slides, attributes, 1.0), Expected(
        "STAMP", MICROMETRES, patch_size=256.0, encoder="uni2", mpp=256 / 224
    )


def stamp_older(root: Path, slides: dict[str, Slide]) -> tuple[Path, Expected]:
    attributes = {"extractor": "ctranspath", "unit": "um", "tile_size": 256.0}
    folder = _stamp(root, slides, attributes, 1.0)
    return folder, Expected("STAMP", MICROMETRES, patch_size=256.0, encoder="ctranspath")


def stamp_oldest(root: Path, slides: dict[str, Slide]) -> tuple[Path, Expected]:
    """Stride 224 meaning 256 µm, where two patches are neighbours; else the unit can't be known."""
    folder = _stamp(root, slides, {}, 224 / 256)
    return folder, Expected("STAMP", MICROMETRES, patch_size=256.0)


def slideflow(root: Path, slides: dict[str, Slide]) -> tuple[Path, Expected]:
    root.mkdir(parents=True)
    extractor = {"class": "slideflow.model.extractors.retccl.RetCCLFeatures", "kwargs": {}}
    config = {"extractor": extractor, "normalizer": {"method": "macenko", "fit": {}}, "tile_px": 256, "tile_um": 302}
    (root / "bags_config.json").write_text(json.dumps(config))
    for name, slide in slides.items():
        torch.save(torch.from_numpy(slide.features), root / f"{name}.pt")
        np.savez(root / f"{name}.index.npz", slide.coords)
    return root, Expected("slideflow", CENTRES, encoder="slideflow.model.extractors.retccl.RetCCLFeatures", mpp=302 / 256,
                          transform="stain normaliser macenko")  # fmt: skip


def slideflow_without_zip(root: Path, slides: dict[str, Slide]) -> tuple[Path, Expected]:
    """As with SF_ALLOW_ZIP=0, and without the bags' configuration."""
    root.mkdir(parents=True)
    for name, slide in slides.items():
        torch.save(torch.from_numpy(slide.features), root / f"{name}.pt")
        np.save(root / f"{name}.index.npy", slide.coords)
    return root, Expected("slideflow", CENTRES)


def owkin(root: Path, slides: dict[str, Slide]) -> tuple[Path, Expected]:
    root.mkdir(parents=True)
    for name, slide in slides.items():
        np.save(root / f"{name}.npy", _with_places(slide))
    return root, Expected("Owkin", TILES, factor=1 / 256, patch_size=1.0)


def owkin_folders(root: Path, slides: dict[str, Slide]) -> tuple[Path, Expected]:
    for name, slide in slides.items():
        (root / name).mkdir(parents=True)
        np.save(root / name / "features.npy", _with_places(slide))
    return root, Expected("Owkin", TILES, factor=1 / 256, patch_size=1.0)


def _with_places(slide: Slide) -> np.ndarray:
    """Level 16, x and y in tiles, then the features."""
    tiles = np.concatenate([np.full((len(slide.coords), 1), 16), slide.coords // 256], axis=1)
    return np.concatenate([tiles, slide.features], axis=1).astype(slide.features.dtype)


def torchmil_npy(root: Path, slides: dict[str, Slide]) -> tuple[Path, Expected]:
    for folder in ("features", "labels", "coords", "inst_labels"):
        (root / folder).mkdir(parents=True)
    for name, slide in slides.items():
        np.save(root / "features" / f"{name}.npy", slide.features)
        np.save(root / "coords" / f"{name}.npy", slide.coords)
        np.save(root / "labels" / f"{name}.npy", np.array(1))
        np.save(root / "inst_labels" / f"{name}.npy", np.arange(len(slide.features)) % 2)
    return root / "features", Expected("torchmil", UNKNOWN)


def torchmil_h5(root: Path, slides: dict[str, Slide]) -> tuple[Path, Expected]:
    for folder in ("features", "coords"):
        (root / folder).mkdir(parents=True)
    for name, slide in slides.items():
        for folder, values in zip(("features", "coords"), slide, strict=True):
            with h5py.File(root / folder / f"{name}.h5", "w") as file:
                file[folder] = values
    return root / "features", Expected("torchmil", UNKNOWN)


def pt_dict(root: Path, slides: dict[str, Slide]) -> tuple[Path, Expected]:
    root.mkdir(parents=True)
    for name, slide in slides.items():
        content = {"feats": torch.from_numpy(slide.features), "coords": torch.from_numpy(slide.coords), "model": "uni"}
        torch.save(content, root / f"{name}.pt")
    return root, Expected("dict of tensors", UNKNOWN)


def npy(root: Path, slides: dict[str, Slide]) -> tuple[Path, Expected]:
    root.mkdir(parents=True)
    for name, slide in slides.items():
        np.save(root / f"{name}.npy", slide.features)
    return root, Expected("NumPy", None)


def npz(root: Path, slides: dict[str, Slide]) -> tuple[Path, Expected]:
    root.mkdir(parents=True)
    for name, slide in slides.items():
        np.savez(root / f"{name}.npz", features=slide.features, coords=slide.coords)
    return root, Expected("NumPy", UNKNOWN)


def npz_compressed(root: Path, slides: dict[str, Slide]) -> tuple[Path, Expected]:
    root.mkdir(parents=True)
    for name, slide in slides.items():
        np.savez_compressed(root / f"{name}.npz", slide.features)
    return root, Expected("NumPy", None)


def wsidata(root: Path, slides: dict[str, Slide]) -> tuple[Path, Expected]:
    for name, slide in slides.items():
        write_wsidata(root / f"{name}.zarr", slide.features, slide.coords)
    return root, Expected("wsidata", PIXELS, patch_size=256.0, encoder="uni", mpp=0.5)


def tiatoolbox(root: Path, slides: dict[str, Slide]) -> tuple[Path, Expected]:
    for name, slide in slides.items():
        write_tiatoolbox(root / f"{name}.zarr", slide.features, slide.coords)
    return root, Expected("tiatoolbox", UNKNOWN, patch_size=256.0)


def eva(root: Path, slides: dict[str, Slide]) -> tuple[Path, Expected]:
    (root / "normal").mkdir(parents=True)
    lines = [f"normal/{name}.tif,normal/{name}.pt,{number % 2},train" for number, name in enumerate(slides)]
    (root / "manifest.csv").write_text("\r\n".join(["origin,embeddings,target,split", *lines, ""]))
    for name, slide in slides.items():
        patches = [torch.from_numpy(patch).clone() for patch in slide.features]
        torch.save(patches, root / "normal" / f"{name}.pt")
    return root, Expected("kaiko-eva", None)


Writer = Callable[[Path, dict[str, Slide]], tuple[Path, Expected]]
WRITERS: tuple[Writer, ...] = (
    clam_h5, clam_pt, clam_hdf5, clam_sites, extracted, trident_h5, trident_patches, trident_pt, stamp_today, stamp_older, stamp_oldest,
    slideflow, slideflow_without_zip, torchmil_npy, torchmil_h5, owkin, owkin_folders, pt_dict, npy, npz, npz_compressed,
    wsidata, tiatoolbox, eva,
)  # fmt: skip
