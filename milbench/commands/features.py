"""`milbench features`: features of whole-slide images, one file per slide."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from milbench.commands.command import EXIT_INTERRUPTED, EXIT_OK, EXIT_SOME_FAILED
from milbench.commands.terminal import complain, line, listed, new_console, say, warn
from milbench.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from milbench.extraction.encoder import Encoder
    from milbench.extraction.features import Outcome
    from milbench.extraction.plan import SlideFile
    from milbench.extraction.settings import Settings

HELP = "make features of whole-slide images: tissue, patches, an encoder, one file per slide"

MOST_WORKERS = 8
"""Reading processes by default, at most: each has a slide or two open, and few encoders are faster than eight readers."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Put the flags of `milbench features` on `parser`."""
    parser.add_argument("slides", type=Path, nargs="+", metavar="SLIDES",
                        help="folder of slides, slide files, or a .txt with one path per line")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="FOLDER", required=True,
                        help="where features go; the same command goes on where it stopped")  # fmt: skip
    encoder = parser.add_argument_group("encoder")
    encoder.add_argument("--encoder", metavar="NAME", required=True,
                         help="retccl, clam-resnet50, resnet50, timm:NAME, hf-hub:ORG/NAME, or that of a plug-in")  # fmt: skip
    encoder.add_argument("--weights", type=Path, metavar="FILE", help="checkpoint of the encoder")
    encoder.add_argument("--no-pretrained", action="store_true", help="random weights, to try things out")
    encoder.add_argument("--plugin", type=Path, metavar="FILE", help="Python file that registers an encoder")
    encoder.add_argument(
        "--dtype", metavar="{float16,float32}", default="float16", help="of stored features (default float16)"
    )
    patches = parser.add_argument_group("patches")
    patches.add_argument("--magnification", type=float, metavar="X", help="of the patches (default 20)")
    patches.add_argument("--mpp", type=float, metavar="µm", help="microns per pixel of the patches, instead")
    patches.add_argument("--patch", type=int, metavar="N", default=256, help="edge of a patch in pixels (default 256)")
    patches.add_argument("--step", type=int, metavar="N",
                         help="pixels from one patch to the next (default: an edge, so that patches do not overlap)")  # fmt: skip
    patches.add_argument("--grid", metavar="{slide,per-tissue}", default="slide",
                         help="one grid over the slide, row by row (default), or one per piece of tissue, as CLAM does")  # fmt: skip
    patches.add_argument("--tissue", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
                         help="how tissue is found, such as otsu=true or smallest_piece=4 (docs/features.md)")  # fmt: skip
    patches.add_argument("--mpp-of", nargs="+", action="extend", default=[], metavar="SLIDE=µm",
                         help="microns per pixel of slides that do not tell, or a CSV with columns slide_id and mpp")  # fmt: skip
    running = parser.add_argument_group("running")
    running.add_argument("--device", metavar="NAME", default="auto", help="auto, cpu, cuda, cuda:1 (default auto)")
    running.add_argument(
        "--batch", type=int, metavar="N", help="patches encoded at once (default: 64 on a GPU, 8 on a CPU)"
    )
    running.add_argument("--workers", type=int, metavar="N",
                         help="processes that read slides (default: cores less one, 8 at most; 0 = none beside this one)")  # fmt: skip
    running.add_argument("--shard", metavar="I/N", default="",
                         help="only this part of the slides, such as 2/4: one command per GPU or machine, one folder")  # fmt: skip


def call(options: argparse.Namespace) -> int:
    """Exit code: 0 if all slides are done, 3 if some failed, 130 if stopped."""
    from milbench.extraction.asked_slides import asked_slides, told_microns

    settings = _settings(options)
    workers = _workers(options)
    slides = _of_shard(asked_slides(options.slides, told_microns(options.mpp_of)), options.shard)
    console = new_console()
    line(console, f"loading encoder {options.encoder}")  # before the imports below, which take a second or two
    encoder = _encoder(options)
    if encoder.is_random:
        warn(f"encoder {encoder.name} has random weights: its features are good for trying things out only")
    if encoder.network.note:
        warn(encoder.network.note)
    line(console, f"{encoder.name}: {encoder.width} features per patch, {encoder.pooling}, on {encoder.device}; "
                  f"{workers} reading process{'es' * (workers != 1)}")  # fmt: skip
    try:
        outcome = _extract(console, slides, encoder, settings, options, workers)
    except KeyboardInterrupt:
        complain("stopped. Give the same command again to go on; finished slides are kept.")
        return EXIT_INTERRUPTED
    _summary(console, outcome, options.out)
    return EXIT_SOME_FAILED if outcome.failed else EXIT_OK


def _settings(options: argparse.Namespace) -> Settings:
    from milbench.extraction.settings import Settings, checked, tissue_settings

    no_resolution = options.mpp is None and options.magnification is None
    return checked(Settings(
        magnification=20.0 if no_resolution else options.magnification, mpp=options.mpp, patch_size=options.patch,
        step=options.patch if options.step is None else options.step, dtype=options.dtype, grid=options.grid,
        tissue=tissue_settings(options.tissue),
    ))  # fmt: skip


def _workers(options: argparse.Namespace) -> int:
    from milbench.process.cores import usable_cores

    if options.workers is not None and not 0 <= options.workers <= 256:
        raise UsageError(f"--workers takes a number from 0 to 256; got {options.workers}.")
    if options.batch is not None and not 1 <= options.batch <= 4096:
        raise UsageError(f"--batch takes a number from 1 to 4096; got {options.batch}.")
    return max(min(usable_cores() - 1, MOST_WORKERS), 1) if options.workers is None else int(options.workers)


def _of_shard(slides: list[SlideFile], text: str) -> list[SlideFile]:
    """The shard's slides, dealt like cards: neighbours by name often come from one scanner, and take as long."""
    from milbench.engines.shards import parse_shard

    shard = parse_shard(text)
    return slides if shard is None else slides[shard.number - 1 :: shard.count]


def _encoder(options: argparse.Namespace) -> Encoder:
    import torch

    from milbench.extraction.encoder import find_encoder
    from milbench.machine.hardware import resolve_device

    if "," in options.device:
        raise UsageError(
            "--device takes one device. For several GPUs give one command per GPU into the same --out: "
            "CUDA_VISIBLE_DEVICES=0 milbench features ... --shard 1/2, and CUDA_VISIBLE_DEVICES=1 with --shard 2/2."
        )
    return find_encoder(
        options.encoder, weights=options.weights, pretrained=not options.no_pretrained, patch_size=options.patch,
        device=torch.device(resolve_device(options.device)), plugin=options.plugin,
    )  # fmt: skip


def _extract(
    console: Console, slides: list[SlideFile], encoder: Encoder, settings: Settings, options: argparse.Namespace, workers: int
) -> Outcome:  # fmt: skip
    from milbench.extraction.features import extract
    from milbench.extraction.progress import Progress

    with Progress(console) as progress:
        return extract(slides, encoder, settings, options.out, workers=workers, batch=options.batch, watch=progress)


def _summary(console: Console, outcome: Outcome, out: Path) -> None:
    done = f"{len(outcome.done)} done ({sum(outcome.done.values()):,} patches)"
    before = f"{len(outcome.skipped)} done before" if outcome.skipped else ""
    by_others = f"{len(outcome.by_others)} done by another command" if outcome.by_others else ""
    failed = f"{len(outcome.failed)} failed" if outcome.failed else ""
    line(console, ", ".join(filter(None, (done, before, by_others, failed))) + (":" if failed else ""))
    if outcome.failed:  # reasons were told when they came, and slides' names are easier to find here
        listed(console, sorted(outcome.failed))
    say(f"features: {out}; a picture per slide: {out / 'sheets'}")
