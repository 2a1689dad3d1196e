"""Slides that tests make: H&E-like pyramids, stored without loss, so that every container gives the same pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Texture = Literal["round", "striped"]

TILE = 256
GLASS, PINK, PURPLE = (244, 243, 245), (226, 158, 190), (96, 56, 140)
VL_WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"


def tissue_pixels(width: int = 2048, height: int = 1536, *, seed: int = 0, texture: Texture = "round") -> Pixels:
    """uint8 [height, width, 3]: two pieces of pink tissue on glass, with purple nuclei that are round or lie in stripes."""
    rng = np.random.default_rng(seed)
    y, x = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)[None]
    tissue = np.zeros((height, width), bool)
    for middle in (0.27, 0.73):
        shift, wave = rng.uniform(-0.03, 0.03, 2), 0.05 * np.sin(9 * x / width + rng.uniform(0, 6))
        tissue |= ((x / width - middle - shift[0]) / 0.19) ** 2 + ((y / height - 0.5 - shift[1] + wave) / 0.36) ** 2 < 1
    colours = np.array([GLASS, PINK, PURPLE], np.uint8)
    pixels = colours[tissue * (1 + _nuclei(x, y, texture).astype(np.uint8))]
    pixels += rng.integers(0, 7, (height, width, 1), np.uint8) * tissue[..., None]
    return pixels


def _nuclei(x: NDArray[np.float32], y: NDArray[np.float32], texture: Texture) -> NDArray[np.bool_]:
    if texture == "striped":
        return np.asarray((x + y) % 32 < 9)
    return np.asarray((x % 28 - 14) ** 2 + (y % 28 - 14) ** 2 < 60)


def pyramid(pixels: Pixels, levels: int = 3) -> list[Pixels]:
    """`pixels`, and each time the same at half the size, every pixel the mean of four."""
    made = [pixels]
    while len(made) < levels:
        height, width = (edge // 2 * 2 for edge in made[-1].shape[:2])
        blocks = made[-1][:height, :width].reshape(height // 2, 2, width // 2, 2, 3)
        made.append(((blocks.sum((1, 3), np.uint16) + 2) // 4).astype(np.uint8))
    return made


def tiff_slide(
    path: Path, pixels: Pixels, mpp: float | tuple[float, float] | None = 0.5, *, levels: int = 3, bigtiff: bool = False,
    compression: str | None = "zlib", description: str | None = None, tiled: bool = True, **options: Any,
) -> Path:  # fmt: skip
    """`path`, a generic pyramidal TIFF: every level a page; µm per pixel in its resolution (None = no unit)."""
    with tifffile.TiffWriter(path, bigtiff=bigtiff) as file:
        for level, shrunk in enumerate(pyramid(pixels, levels)):
            file.write(
                shrunk, photometric="rgb", compression=compression, subfiletype=int(level > 0), metadata=None,
                description=description if level == 0 else None, **(tile_options() if tiled else {"rowsperstrip": 64}),
                **resolution(mpp, 2**level), **options,
            )  # fmt: skip
    return path


def aperio_slide(path: Path, pixels: Pixels, mpp: float = 0.5, magnification: float = 20) -> Path:
    """`path`, a TIFF whose description is that of an Aperio SVS: OpenSlide reads mpp and magnification from it."""
    height, width = pixels.shape[:2]
    text = f"Aperio Image Library v11.2.1\r\n{width}x{height} [0,0 {width}x{height}] (256x256) J2K|AppMag = {magnification:g}|MPP = {mpp:g}"
    return tiff_slide(path, pixels, None, description=text)


def ome_tiff_slide(
    path: Path, pixels: Pixels, mpp: float | tuple[float, float] | None = 0.5, *, unit: str = "µm", levels: int = 3,
    label_first: bool = False, magnification: float | None = None, bigtiff: bool = False, compression: str | None = "zlib",
    planar: bool = False, tiled: bool = True,
) -> Path:  # fmt: skip
    """`path`, an OME-TIFF whose smaller levels are SubIFDs of the first; with `label_first` a label is its first image."""
    images = ([np.full((300, 300, 3), 90, np.uint8)] if label_first else []) + [pixels]
    sizes = ([None] if label_first else []) + [mpp]
    with tifffile.TiffWriter(path, bigtiff=bigtiff, ome=False) as file:
        for number, image in enumerate(images):
            made = pyramid(image, levels if image is pixels else 1)
            for level, shrunk in enumerate(made):
                file.write(
                    np.moveaxis(shrunk, 2, 0) if planar else shrunk, photometric="rgb", compression=compression,
                    planarconfig="separate" if planar else "contig", metadata=None,
                    subifds=len(made) - 1 if level == 0 else None, subfiletype=int(level > 0),
                    description=ome_xml(images, sizes, unit, magnification).encode() if number == level == 0 else None,
                    **(tile_options() if tiled else {"rowsperstrip": 64}),
                )  # fmt: skip
    return path


def ome_xml(images: list[Pixels], sizes: list[Any], unit: str, magnification: float | None) -> str:
    """The description of an OME-TIFF with these images, each in a page of its own."""
    objective = f'<Instrument ID="Instrument:0"><Objective ID="Objective:0" NominalMagnification="{magnification}"/></Instrument>'
    text = '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
    text += objective if magnification else ""
    for number, (image, size) in enumerate(zip(images, sizes, strict=True)):
        x, y = size if isinstance(size, tuple) else (size, size)
        physical = (
            f' PhysicalSizeX="{x}" PhysicalSizeXUnit="{unit}" PhysicalSizeY="{y}" PhysicalSizeYUnit="{unit}"'
            if size
            else ""
        )
        text += (
            f'<Image ID="Image:{number}" Name="{"slide" if size else "label"}">'
            + ('<ObjectiveSettings ID="Objective:0"/>' if magnification and size else "")
            + f'<Pixels ID="Pixels:{number}" DimensionOrder="XYCZT" Type="uint8" SizeX="{image.shape[1]}" SizeY="{image.shape[0]}"'
            f' SizeC="3" SizeZ="1" SizeT="1"{physical}><Channel ID="Channel:{number}:0" SamplesPerPixel="3"/>'
            f'<TiffData IFD="{number}" PlaneCount="1"/></Pixels></Image>'
        )
    return text + "</OME>"


def tile_options() -> dict[str, Any]:
    return {"tile": (TILE, TILE)}


def resolution(mpp: float | tuple[float, float] | None, downsample: float) -> dict[str, Any]:
    """What tells `TiffWriter.write` the µm per pixel of a level."""
    if mpp is None:
        return {"resolution": (1, 1), "resolutionunit": "NONE"}
    x, y = mpp if isinstance(mpp, tuple) else (mpp, mpp)
    return {"resolution": (1e4 / x / downsample, 1e4 / y / downsample), "resolutionunit": "CENTIMETER"}


def dicom_slide(
    folder: Path, pixels: Pixels, mpp: float | tuple[float, float] = 0.5, *, levels: int = 3, magnification: float | None = None,
    container: str = "made", prefix: str = "", label: bool = False,
) -> Path:  # fmt: skip
    """`folder`, with a DICOM series of VL Whole Slide Microscopy: one uncompressed, fully tiled file per level.

    With `label`, a picture of the slide's label lies beside the levels, in a file that sorts before theirs.
    """
    from pydicom.uid import generate_uid

    folder.mkdir(parents=True, exist_ok=True)
    uids = {
        name: generate_uid(None, [str(folder), container, name]) for name in ("study", "series", "frame", "pyramid")
    }
    for level, shrunk in enumerate(pyramid(pixels, levels)):
        data = _instance(shrunk, mpp, 2**level, uids, level)
        data.ContainerIdentifier = container
        if magnification:
            data.OpticalPathSequence[0].ObjectiveLensPower = magnification
        data.save_as(folder / f"{prefix}level_{level}.dcm", enforce_file_format=True)
    if label:
        data = _instance(np.full((TILE, TILE, 3), 90, np.uint8), mpp, 1, uids, levels)
        data.ImageType, data.ContainerIdentifier = ["ORIGINAL", "PRIMARY", "LABEL", "NONE"], container
        data.save_as(folder / f"{prefix}a_label.dcm", enforce_file_format=True)
    return folder


def _instance(
    pixels: Pixels, mpp: float | tuple[float, float], downsample: int, uids: dict[str, str], level: int
) -> Any:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.sequence import Sequence
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = VL_WHOLE_SLIDE
    uid = generate_uid(None, [uids["series"], str(level)])
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = uid
    data.StudyInstanceUID, data.SeriesInstanceUID = uids["study"], uids["series"]
    data.FrameOfReferenceUID, data.PyramidUID = uids["frame"], uids["pyramid"]
    data.Modality, data.InstanceNumber, data.PatientID, data.PatientName = "SM", level + 1, "P1", "Made"
    data.ImageType = ["DERIVED", "PRIMARY", "VOLUME", "NONE" if level == 0 else "RESAMPLED"]
    x, y = mpp if isinstance(mpp, tuple) else (mpp, mpp)
    height, width = pixels.shape[:2]
    data.Rows = data.Columns = TILE
    data.TotalPixelMatrixRows, data.TotalPixelMatrixColumns = height, width
    data.ImagedVolumeWidth, data.ImagedVolumeHeight = width * downsample * x / 1000, height * downsample * y / 1000
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PlanarConfiguration = 3, "RGB", 0
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    data.DimensionOrganizationType, data.TotalPixelMatrixFocalPlanes, data.NumberOfOpticalPaths = "TILED_FULL", 1, 1
    measures, shared, path = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [y * downsample / 1000, x * downsample / 1000], 0.004
    shared.PixelMeasuresSequence = Sequence([measures])
    data.SharedFunctionalGroupsSequence = Sequence([shared])
    path.OpticalPathIdentifier = "1"
    data.OpticalPathSequence = Sequence([path])
    frames = _tiles(pixels)
    data.NumberOfFrames = len(frames)
    data.PixelData = b"".join(frame.tobytes() for frame in frames)
    return data


def _tiles(pixels: Pixels) -> list[Pixels]:
    """Tiles row by row; those at the right and lower edge are filled up with white."""
    rows, columns = (-(-edge // TILE) for edge in pixels.shape[:2])
    padded = np.full((rows * TILE, columns * TILE, 3), 255, np.uint8)
    padded[: pixels.shape[0], : pixels.shape[1]] = pixels
    return [padded[r * TILE : (r + 1) * TILE, c * TILE : (c + 1) * TILE] for r in range(rows) for c in range(columns)]
