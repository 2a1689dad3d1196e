"""Design: every parameter of a simulated cohort, frozen, and the presets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from math import exp, isfinite, isqrt
from typing import Any, TypeVar

from milbench.errors import UsageError, unknown_name

V = TypeVar("V")

SIGNALS = ("witness", "diffuse", "layout")
BINARY = "binary"

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""Names of classes."""

MOST_CENSORED = 0.95
"""Above it a cohort of usual size may hold no event at all."""

MOST_APART = 0.25
"""Share of a full square on which patches can stand without touching; random places reach some two thirds of it."""


@dataclass(frozen=True)
class Design:
    """What a cohort is made of; with the seed and the label table it decides every byte.

    Tuples hold one value per task, or one value for all tasks.

    Attributes
    ----------
    preset : where the design comes from.
    slides : slides; of a given label table the first so many, 0 = all.
    tasks, prevalences, loadings : of the synthetic label table; a loading ties a task to the factor that all share,
        so that tasks i and j correlate by loading_i loading_j before the cut. Unused with a given table. Prevalences and
        loadings are of binary tasks; tasks of other kinds are independent of all others.
    kinds : "binary", "multiclass", "ordinal", "regression" or "survival". Given tables are binary.
    classes : number of classes of a multiclass task, or of grades of an ordinal one.
    score_noise : noise of a score, in standard deviations of what the phenotype decides of it.
    hazard_ratio : hazard of patients with the full phenotype, of those without it.
    censored : share of patients who are censored.
    sites, site_label_sd : number of synthetic sites, and how far prevalence (as a normal score) moves between them.
    penetrance, leak : share of positive and of negative patients who carry the phenotype. Of patients with a class or
        grade a share `penetrance` shows it; the others show another class, or a grade beside it.
    signals : "witness" (strong in few tumour patches), "diffuse" (weak in every patch), "layout" (the same patches
        in all slides, side by side in carriers, apart in others).
    strengths : shift along the task's direction, in standard deviations of the noise.
    witness_shares : share of the patches that hold the signal (witness, layout).
    sharing : share of a task's direction that all tasks have in common, 0 to 1.
    burden : shift of tumour patches along the common direction, a standard deviation of the carrier count.
    tumour, tumour_share : shift of tumour patches along a direction of their own; share of patches in tumour.
    site_sd, patient_sd : standard deviation of the site's and the patient's shift, in every direction.
    width : D. latent : directions the signal lives in; 0 = D. pixel_noise : noise after the map from latent to D.
    dtype : float16 or float32.
    patches, patches_sd : median of patches per slide, standard deviation of its logarithm (clipped at two of them).
    patches_multiple : patches are rounded to a multiple, so that bags of one size can be trained together.
    raster : every slide is the same full square of patches.
    """

    preset: str
    slides: int = 400
    tasks: tuple[str, ...] = ("A", "B", "C")
    prevalences: tuple[float, ...] = (0.5, 0.4, 0.3)
    loadings: tuple[float, ...] = (0.0,)
    kinds: tuple[str, ...] = (BINARY,)
    classes: tuple[int, ...] = (4,)
    score_noise: float = 0.5
    hazard_ratio: float = 20.0
    censored: float = 0.4
    sites: int = 12
    site_label_sd: float = 0.0
    penetrance: float = 0.9
    leak: float = 0.1
    signals: tuple[str, ...] = ("witness",)
    strengths: tuple[float, ...] = (3.0,)
    witness_shares: tuple[float, ...] = (0.1,)
    sharing: float = 0.0
    burden: float = 0.0
    tumour: float = 2.0
    tumour_share: float = 0.45
    site_sd: float = 0.0
    patient_sd: float = 0.2
    width: int = 32
    latent: int = 0
    pixel_noise: float = 0.0
    dtype: str = "float16"
    patches: int = 64
    patches_sd: float = 0.3
    patches_multiple: int = 16
    raster: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for truth.json; what is of other kinds is left out where all tasks are binary."""
        unused = OF_OTHER_KINDS if self.all_binary else ()
        values = {key: value for key, value in asdict(self).items() if key not in unused}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    @property
    def all_binary(self) -> bool:
        """Whether no task is of another kind."""
        return set(self.kinds) <= {BINARY}


OF_OTHER_KINDS = ("kinds", "classes", "score_noise", "hazard_ratio", "censored")
"""Fields that decide nothing of a design whose tasks are all binary."""


@dataclass(frozen=True)
class Preset:
    """A design with what it is for, and settings that models of its size learn with (the same for all)."""

    about: str
    design: Design
    trainer: Mapping[str, Any]
    model: Mapping[str, Any] = field(default_factory=lambda: {"hidden": 32, "attention": 16, "landmarks": 8})


MULTI_TASK = {"hidden": 64, "attention": 32, "landmarks": 8, "experts": 3, "tower_dropout": 0.1}


def _trainer(*, lr: float = 0.002, epochs: int = 30) -> Mapping[str, Any]:
    return {"lr": lr, "epochs": epochs, "bags_per_step": 16, "weight_decay": 1e-4}


UCEC = {
    "ARID1A": (0.49, 0.83), "CTCF": (0.26, 0.68), "CTNNB1": (0.27, 0.40), "KMT2B": (0.23, 0.72), "KMT2D": (0.30, 0.66),
    "PIK3CA": (0.50, 0.35), "PIK3R1": (0.33, 0.37), "PTEN": (0.65, 0.90), "TP53": (0.36, -0.64), "ZFHX3": (0.24, 0.72),
}  # fmt: skip
"""Prevalence of TCGA-UCEC's ten genes, and the one factor that explains nine tenths of their squared co-mutation."""

_UCEC: dict[str, Any] = {
    "tasks": tuple(UCEC),
    "prevalences": tuple(prevalence for prevalence, _ in UCEC.values()),
    "loadings": tuple(loading for _, loading in UCEC.values()),
}

PRESETS = {
    "witness": Preset(
        "a few patches show it strongly: attention and max should beat mean",
        Design("witness", width=16, strengths=(8.0,), witness_shares=(0.03,)),
        trainer=_trainer(lr=0.005, epochs=40),
    ),
    "diffuse": Preset(
        "every patch is moved a little: mean is enough",
        Design("diffuse", signals=("diffuse",), strengths=(1.0,)),
        trainer=_trainer(),
    ),
    "shared": Preset(
        "the co-mutation of UCEC and a common direction: many tasks at once should beat one at a time on rare ones",
        Design("shared", slides=529, **_UCEC, penetrance=0.65, leak=0.2, strengths=(2.0,), witness_shares=(0.2,),
               sharing=0.9, burden=0.6, width=64, patches=32, patches_sd=0.2),
        model=MULTI_TASK,
        trainer=_trainer(epochs=20),
    ),
    "neighbourhood": Preset(
        "the same patches in every slide, only their neighbourhood tells; slides are full squares",
        Design("neighbourhood", signals=("layout",), strengths=(5.0,), witness_shares=(0.14,), raster=True),
        trainer=_trainer(epochs=40),
    ),
    "null": Preset(
        "labels without any signal: every model should stay near 0.5; `site_sd=1` lets sites leak",
        Design("null", penetrance=0.3, leak=0.3, site_label_sd=0.6),
        trainer=_trainer(),
    ),
    "kinds": Preset(
        "a task of every kind: binary, classes, grades, a score and survival",
        Design("kinds", tasks=("mutated", "subtype", "grade", "score", "os"), prevalences=(0.4,),
               kinds=(BINARY, "multiclass", "ordinal", "regression", "survival"), strengths=(4.0,), witness_shares=(0.2,)),
        trainer=_trainer(),
    ),
    "tcga-like": Preset(
        "2,048 wide, models in the range of the M4 study (0.55 to 0.76)",
        Design("tcga-like", slides=529, **_UCEC, penetrance=0.65, leak=0.2, strengths=(2.5,), witness_shares=(0.2,),
               sharing=0.9, burden=0.6, width=2048, latent=64, pixel_noise=0.5, patches=128, site_sd=0.3),
        model=MULTI_TASK,
        trainer=_trainer(lr=0.001, epochs=15),
    ),
}  # fmt: skip


def make_design(preset: str, assignments: Sequence[tuple[str, Any]] = ()) -> Design:
    """The preset's design with `assignments` (key, value) checked and put in.

    Raises
    ------
    UsageError : unknown preset or key, or a value that makes no sense.
    """
    if preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS)
    design = PRESETS[preset].design
    known = [f.name for f in fields(Design) if f.name != "preset"]
    for key, value in assignments:
        if key not in known:
            raise unknown_name("simulation setting", key, known)
        design = replace(design, **{key: _as_type(key, value, getattr(design, key))})
    return checked(design)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _as_type(key: str, value: Any, now: Any) -> Any:
    """`value` as the type of the present one: 1 for 1.0, and one value or a list for a tuple."""
    if isinstance(now, tuple):
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(_as_type(key, item, now[0]) for item in items)
    if isinstance(now, float) and (type(value) is int or (isinstance(value, str) and _is_number(value))):
        return float(value)  # YAML takes 1e3 for a word
    if type(value) is not type(now):
        raise UsageError(f"{key} is {value!r}; expected a value of type {type(now).__name__}, as {now!r} is.")
    return value


_SHARES = ("prevalences", "penetrance", "leak", "witness_shares", "sharing", "tumour_share")
_COUNTS = ("slides", "sites", "latent", "score_noise")
_POSITIVE = ("width", "patches", "patches_multiple")
_SPREADS = ("site_label_sd", "site_sd", "patient_sd", "patches_sd", "pixel_noise")
_MOST = {
    "slides": 1_000_000, "sites": 1_000_000, "width": 100_000, "latent": 100_000,
    "patches": 1_000_000, "patches_multiple": 1_000_000, "patches_sd": 5,
}  # fmt: skip
"""Larger than any cohort, and small enough that a mistyped zero is a message and no want of memory."""
MOST_STRENGTH = 1000
"""Standard deviations of a shift or a spread: float16 ends at 65,504."""
MOST_VALUES = 100_000_000
"""Of one slide: 0.8 GB while it is drawn."""


def checked(design: Design) -> Design:
    """`design` unchanged, if a cohort can be made of it."""
    for key in (*_SHARES, *_COUNTS, *_POSITIVE, *_SPREADS):
        least, most = int(key in _POSITIVE), 1 if key in _SHARES else _MOST.get(key, MOST_STRENGTH)
        if not all(least <= value <= most for value in _values(getattr(design, key))):
            raise UsageError(f"{key} is {getattr(design, key)}; expected {least} to {most:,}.")
    if not design.tumour_share:
        raise UsageError("tumour_share is 0.0, so witness patches have nowhere to lie. Give a share above 0.")
    for key in ("strengths", "burden", "tumour"):
        if not all(abs(value) <= MOST_STRENGTH for value in _values(getattr(design, key))):
            raise UsageError(
                f"{key} is {getattr(design, key)}; expected numbers from -{MOST_STRENGTH:,} to {MOST_STRENGTH:,}."
            )
    if not all(-1 <= loading <= 1 for loading in design.loadings):
        raise UsageError(f"loadings are {design.loadings}; a loading is a correlation, -1 to 1.")
    if design.dtype not in ("float16", "float32"):
        raise unknown_name("dtype", design.dtype, ("float16", "float32"))
    if design.raster and isqrt(design.patches) ** 2 != design.patches:
        raise UsageError(f"patches is {design.patches}; a raster is a square: take {isqrt(design.patches) ** 2}.")
    _check_kinds(design)
    _refuse_large_slides(design)
    if design.latent > design.width:
        raise UsageError(f"latent is {design.latent}, above width {design.width}; expected at most the width.")
    return design


def _check_kinds(design: Design) -> None:
    """UsageError for a field of `OF_OTHER_KINDS` of which no labels can be drawn."""
    from milbench.endpoints.endpoint import FEWEST_CLASSES, KINDS  # it brings NumPy, which help does without

    for kind in design.kinds:
        if kind not in KINDS:
            raise unknown_name("kind", kind, KINDS)
    if not all(FEWEST_CLASSES <= number <= len(LETTERS) for number in design.classes):
        raise UsageError(f"classes is {design.classes}; expected {FEWEST_CLASSES} to {len(LETTERS)} classes or grades.")
    if not 0 < design.hazard_ratio < float("inf"):
        raise UsageError(f"hazard_ratio is {design.hazard_ratio}; expected a number above 0. 1 means no signal.")
    if not 0 <= design.censored <= MOST_CENSORED:
        raise UsageError(f"censored is {design.censored}; expected a share of patients, 0 to {MOST_CENSORED}.")
    if not isfinite(design.score_noise):
        raise UsageError(f"score_noise is {design.score_noise}; expected a finite number.")


def _refuse_large_slides(design: Design) -> None:
    largest = (design.patches * exp(2 * design.patches_sd) + design.patches_multiple) * design.width
    if largest > MOST_VALUES:
        raise UsageError(
            f"a slide may have {largest:,.0f} values (patches, patches_sd, patches_multiple and width), more than the "
            f"{MOST_VALUES:,} that fit into memory. Take less."
        )


def checked_for_tasks(design: Design, n_tasks: int) -> Design:
    """`design` unchanged, if its lists fit the tasks and layouts have room to stand apart."""
    shares = per_task("witness_shares", design.witness_shares, n_tasks)
    per_task("strengths", design.strengths, n_tasks)
    per_task("classes", design.classes, n_tasks)
    kinds = per_task("kinds", design.kinds, n_tasks)
    for signal, share, kind in zip(per_task("signals", design.signals, n_tasks), shares, kinds, strict=True):
        if signal not in SIGNALS:
            raise unknown_name("signal", signal, SIGNALS)
        if signal == "layout" and kind != BINARY:
            raise UsageError(
                f"signals holds a layout for a task of kind {kind}; patches lie side by side or apart, so a layout tells "
                "two classes. Take witness or diffuse."
            )
        if signal == "layout" and share > MOST_APART:
            raise UsageError(
                f"a layout's witness_shares is {share}; above {MOST_APART} patches cannot stand apart. Take less."
            )
    return design


def _values(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def per_task(name: str, values: tuple[V, ...], n_tasks: int) -> tuple[V, ...]:
    """One value per task.

    Raises
    ------
    UsageError : neither one value nor one per task.
    """
    if len(values) not in (1, n_tasks):
        raise UsageError(f"{name} holds {len(values)} values for {n_tasks} tasks; give one, or one per task.")
    return values if len(values) == n_tasks else values * n_tasks
