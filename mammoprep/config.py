"""What a build is told: Settings shape the bytes, BuildConfig adds where and how."""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from math import isfinite
from pathlib import Path
from typing import Any

from mammoprep.core import mask_values, plugins
from mammoprep.core.errors import ConfigError
from mammoprep.core.schema import VIEWS

FITS = ("pad", "stretch")
FORMATS = ("png", "jpeg")
CROPS = ("breast", "tight", "none")
ORIENTS = ("left", "none")
DECODES = ("exact", "fast")
DEVICES = ("cpu", "cuda")
MISSING = ("fail", "skip")
SIDE_LIMITS = (16, 16384)
SCALE_LIMITS = (0.01, 10.0)


@dataclass(frozen=True)
class Settings:
    """Everything that shapes the bytes of a dataset, and nothing else.

    Attributes:
        size: (width, height) of the finished image in pixels.
        fit: ``pad`` keeps the aspect ratio, ``stretch`` does not.
        bits: 8 or 16 a pixel.
        format: ``png`` or ``jpeg`` (8 bits only).
        window: ``auto``, ``full``, ``percentile`` or ``CENTRE,WIDTH``.
        decode: ``exact``, or ``fast``: JPEG 2000 only as fine as ``size`` needs.
        target: Which label becomes ``label``.
        crop: ``breast``; ``tight``, which also cuts what lies below the fold; or ``none``.
        crop_margin: Margin around the breast on each side, as a share of its box's side; the same
            for all images.
        range: Which values of a picture (PNG, TIFF, PGM ...) are black and white: ``auto`` (what
            the table or the file says, else all that the file can hold), ``HIGH``, ``LOW,HIGH``, or
            ``percentile`` (1 to 99 % of each picture alone).
        mask_values: What the values of a mask file are: ``binary``, ``instances`` (numbers of
            lesions), ``classes`` (numbers of kinds), or ``VALUE=NAME,...`` (names of kinds).
        orient: ``left`` or ``none``.
        folds: Number of folds.
        seed: Seed of the folds.
        split_file: SHA-256 of the split file, or None.
        shard_size: Mean inputs a shard, or None for the default.
        intersection: Whether to write image x lesion mask too.
        views: Only these views; all when empty. Inputs whose table names no view are kept.
        mm_per_pixel: Size of a finished pixel in mm, instead of filling the frame, or None.
        missing: ``fail`` or ``skip``; or empty, which becomes ``fail`` in a build, where at least
            half of the files must be there then.
        limit: Only the first so many inputs, or None.
        roi: (width, height) of lesion patches and background tiles instead of whole images, the
            same as ``size``; or None.
        roi_copies: Augmented copies of each patch and tile.
        roi_ratio: Lesion patches to background tiles, such as ``1:2``.
        roi_padding: Margin on each side of a lesion, as a share of its width and height.
        roi_shrink: Stored pixels that a patch's pixel shows at least.
        balance: The label whose classes are made level by augmented copies, or None.
        columns: Only for ``--source table``: meaning -> name of the column in the user's own table.
        label_names: Only for ``--source table``: the classes by code; empty for those of the table,
            sorted.
        encoding: Only for ``--source table``: of its text, or empty for what it is found to be.
        sheet: Only for ``--source table``: name or number, from 1, of an Excel file's sheet.
        header_row: Only for ``--source table``: the row of the column names, from 1, or None for
            what it is found to be.
        label_map: Only for ``--source table``: label as it stands there -> class.
        key_file: Only for ``--source dicom``: a keyed hash that tells keys apart, or None.
        crosscheck: Share of the images that a second decoder must confirm, such as ``1%``; it
            decides which of them fail.
    """

    size: tuple[int, int]
    fit: str = "pad"
    bits: int = 8
    format: str = "png"
    window: str = "auto"
    decode: str = "exact"
    target: str = ""
    crop: str = "breast"
    crop_margin: float = 0.02
    range: str = "auto"
    mask_values: str = "instances"
    orient: str = "left"
    folds: int = 5
    seed: int = 0
    split_file: str | None = None
    shard_size: int | None = None
    intersection: bool = False
    views: tuple[str, ...] = ()
    mm_per_pixel: float | None = None
    missing: str = ""
    limit: int | None = None
    crosscheck: str = "0%"
    roi: tuple[int, int] | None = None
    roi_copies: int = 0
    roi_ratio: str = "1:1"
    roi_padding: float = 0.2
    roi_shrink: float = 2.0
    balance: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    label_names: tuple[str, ...] = ()
    encoding: str = ""
    sheet: str = ""
    header_row: int | None = None
    label_map: Mapping[str, str] = field(default_factory=dict)
    key_file: str | None = None

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ConfigError: with the option, what was expected and what was found.
        """
        low, high = SIDE_LIMITS
        if not all(low <= side <= high for side in self.size):
            found = f"{self.size[0]}x{self.size[1]}"
            raise ConfigError(f"--size must be {low} to {high} pixels a side, got {found}.")
        _one_of("--fit", self.fit, FITS)
        _one_of("--bits", self.bits, (8, 16))
        _one_of("--format", self.format, FORMATS)
        _one_of("--crop", self.crop, CROPS)
        mask_values.parse(self.mask_values)
        _between("--crop-margin", self.crop_margin, 0.0, 1.0)
        _one_of("--orient", self.orient, ORIENTS)
        _one_of("--missing", self.missing or MISSING[0], MISSING)
        _check_window(self.window)
        self._check_range()
        _one_of("--decode", self.decode, DECODES)
        for view in self.views:
            _one_of("--views", view, VIEWS)
        _check_scale(self.mm_per_pixel, self.fit)
        if self.format == "jpeg" and self.bits == 16:
            raise ConfigError("--format jpeg holds 8 bits. Use --format png with --bits 16.")
        _within("--folds", self.folds, 1, 100)
        _within("--seed", self.seed, 0, 2**63 - 1)
        if self.shard_size is not None:
            _within("--shard-size", self.shard_size, 1, 100_000)
        if self.header_row is not None:
            _within("--header-row", self.header_row, 1, 1_000_000)
        if self.limit is not None:
            _within("--limit", self.limit, 1, 2**63 - 1)
        _share("--crosscheck", self.crosscheck)
        self._check_patches()

    def _check_range(self) -> None:
        if self.range_values == "percentile" and "," in self.window:
            raise ConfigError(
                f"--window {self.window} speaks of values, --range percentile of shares of each "
                "picture: give --range HIGH or LOW,HIGH."
            )

    def check_picture_window(self) -> None:
        """Check that ``window`` applies where every input is a picture without a range of its own.

        Raises:
            ConfigError: it does not; with what does.
        """
        if self.window == "percentile" and self.range != "percentile":
            raise ConfigError(
                "--window percentile is for DICOM. To stretch each picture alone, by 1 to 99 % of "
                "its pixels, say --range percentile; for the values of black and white, --range "
                "HIGH such as 4095."
            )
        if "," in self.window and isinstance(self.range_values, str):
            raise ConfigError(
                f"--window {self.window}: a window in values needs the range that the values of a "
                "picture have, which nobody stated: add --range HIGH such as 4095, or a column of "
                "ranges."
            )

    def _check_patches(self) -> None:
        _within("--roi-copies", self.roi_copies, 0, 1000)
        _between("--roi-padding", self.roi_padding, 0.0, 10.0)
        _between("--roi-shrink", self.roi_shrink, 0.25, 64.0)
        _ratio("--roi-ratio", self.roi_ratio)
        if self.roi is None:
            return
        if self.balance is not None:
            raise ConfigError("--roi has --roi-ratio to balance with: leave --balance out.")
        if self.mm_per_pixel is not None:
            raise ConfigError("--roi has --roi-shrink for its scale: leave --mm-per-pixel out.")

    @property
    def roi_parts(self) -> tuple[int, int]:
        """``roi_ratio`` as two numbers: lesion patches, background tiles."""
        return _ratio("--roi-ratio", self.roi_ratio)

    @property
    def range_values(self) -> tuple[float, float] | str:
        """``range`` as (lowest, highest), or ``auto`` or ``percentile``."""
        return _range(self.range)

    @property
    def crosscheck_share(self) -> float:
        """``crosscheck`` as a number from 0 to 1."""
        return _share("--crosscheck", self.crosscheck)

    def to_json(self) -> dict[str, Any]:
        """Return the ``settings`` of dataset.json."""
        lists = {name: list(getattr(self, name)) for name in ("size", "label_names", "views")}
        return {**asdict(self), **lists, "roi": None if self.roi is None else list(self.roi)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Settings":
        """Return the settings that ``to_json`` wrote."""
        width, height = value["size"]
        lists = {name: tuple(value.get(name, ())) for name in ("label_names", "views")}
        size = (int(width), int(height))
        return cls(**{**value, **lists, "size": size, "roi": size if value.get("roi") else None})


@dataclass(frozen=True)
class BuildConfig:
    """A whole build: settings, and where and how, which shape no byte.

    Attributes:
        source: Name of the source.
        settings: What shapes the bytes.
        input: Folder or zip of the dataset.
        out: Folder to build into.
        workers: How many threads, each with one child process.
        engine: ``local``.
        device: ``cpu``, or ``cuda`` to decode lossless syntaxes on a GPU; the bytes are the same.
        max_failures: How many inputs may fail before the exit status says so: a count or ``5%``.
        retry_failed: Give failed inputs another try.
        fresh: Start over.
        split_file: The user's own assignment, or None.
        table: The user's own table, when it is not in the folder ``input``.
        key_file: The secret that turns identifiers into keyed hashes, or None.
        id_map: Where to write which file each of these stands for, or None.
        limits: What a child process may use.
    """

    source: str
    settings: Settings
    input: Path
    out: Path
    workers: int = 1
    engine: str = "local"
    device: str = "cpu"
    max_failures: str = "0"
    retry_failed: bool = False
    fresh: bool = False
    split_file: Path | None = None
    table: Path | None = None
    key_file: Path | None = None
    id_map: Path | None = None
    limits: "Limits" = field(default_factory=lambda: Limits())

    def __post_init__(self) -> None:
        """Check every value; raises ConfigError."""
        _within("--workers", self.workers, 1, 1024)
        if self.engine != "local":
            raise not_built("engine", self.engine, "cluster engines")
        _one_of("--device", self.device, DEVICES)
        if self.device == "cuda" and self.settings.decode == "fast":
            raise ConfigError(
                "--device cuda decodes everything, --decode fast leaves most undecoded on the CPU: "
                "give one of the two."
            )
        allowed_failures(self.max_failures, 1)


@dataclass(frozen=True)
class Limits:
    """What one child process may use for one record.

    Attributes:
        memory: Address space in bytes.
        cpu_seconds: Processor time; not wall time, so that a busy machine changes nothing.
        wall_seconds: Backstop for a child that sleeps for ever.
    """

    memory: int = 4 << 30
    cpu_seconds: int = 120
    wall_seconds: int = 1800


def not_built(option: str, value: object, part: str) -> ConfigError:
    """Return the error for an option whose part does not exist yet."""
    name = option.replace("_", "-")
    return ConfigError(
        f"--{name} {value}: {part} is not built yet in this version. Leave the option out."
    )


def _one_of(option: str, value: object, known: tuple[object, ...]) -> None:
    if value not in known:
        hint = plugins.suggest(str(value), [str(name) for name in known])
        listed = ", ".join(str(name) for name in known)
        raise ConfigError(f"{option} must be one of {listed}; got {value!r}.{hint}")


def _within(option: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{option} must be {low} to {high}, got {value}.")


def _between(option: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{option} must be {low:g} to {high:g}, got {value:g}.")


def _ratio(option: str, text: str) -> tuple[int, int]:
    parts = text.split(":")
    whole = len(parts) == 2 and all(part.isdecimal() and len(part) < 7 for part in parts)
    if not whole or int(parts[0]) == 0:
        raise ConfigError(
            f"{option} must be LESIONS:TILES such as 1:2, with at least 1 lesion; got {text!r}."
        )
    return int(parts[0]), int(parts[1])


def _check_scale(mm_per_pixel: float | None, fit: str) -> None:
    if mm_per_pixel is None:
        return
    low, high = SCALE_LIMITS
    if not low <= mm_per_pixel <= high:
        raise ConfigError(f"--mm-per-pixel must be {low:g} to {high:g}, got {mm_per_pixel:g}.")
    if fit == "stretch":
        raise ConfigError("--mm-per-pixel keeps the scale, --fit stretch does not: give one.")


def _check_window(text: str) -> None:
    if text in ("auto", "full", "percentile"):
        return
    try:
        _, width = (float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(
            "--window must be auto, full, percentile or CENTRE,WIDTH such as 2048,4096; "
            f"got {text!r}."
        ) from None
    if not width >= 1:
        raise ConfigError(f"--window: the width must be at least 1, got {width:g}.")


def _range(text: str) -> tuple[float, float] | str:
    if text in ("auto", "percentile"):
        return text
    parts = text.split(",")
    try:
        low, high = (float(part) for part in ("0", *parts)[-2:])
    except ValueError:
        low, high = 0.0, 0.0
    if len(parts) > 2 or not (isfinite(low) and isfinite(high) and low < high):
        raise ConfigError(
            "--range must be HIGH such as 4095, LOW,HIGH such as 0,4095 with LOW below HIGH, auto "
            f"or percentile; got {text!r}."
        )
    return low, high


def _share(option: str, text: str) -> float:
    try:
        share = float(text.removesuffix("%")) / 100 if text.endswith("%") else -1.0
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ConfigError(f"{option} must be a share from 0% to 100%, such as 1%; got {text!r}.")
    return share


def parse_size(text: str, option: str = "--size") -> tuple[int, int]:
    """Return (width, height) from ``728x1456``.

    Raises:
        ConfigError: not two whole numbers with an x between them.
    """
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() and len(part) < 7 for part in parts):
        raise ConfigError(
            f"{option} must be WIDTHxHEIGHT in pixels such as 728x1456, got {text!r}."
        )
    return int(parts[0]), int(parts[1])


def allowed_failures(text: str, inputs: int) -> int:
    """Return how many of ``inputs`` may fail by ``--max-failures`` ``5`` or ``5%``.

    Raises:
        ConfigError: neither a count nor a percentage.
    """
    number, percent = text.removesuffix("%"), text.endswith("%")
    try:
        value = float(number) if percent else int(number)
    except ValueError:
        value = -1
    if value < 0 or (percent and value > 100):
        raise ConfigError(
            f"--max-failures must be a count such as 5 or a share such as 1%, got {text!r}."
        )
    return int(inputs * value / 100) if percent else int(value)


def read_options(path: Path) -> dict[str, Any]:
    """Return the options in a TOML file, by their command-line names with ``_`` for ``-``.

    Raises:
        ConfigError: unreadable or not TOML.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"--config {path} is not valid TOML: {error}.") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"--config {path} cannot be read ({type(error).__name__}).") from None
    return {key.replace("-", "_"): value for key, value in table.items()}


def difference(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return ``name: old -> new`` for every key in which two settings or versions differ."""
    return [
        f"{name}: {old.get(name, 'absent')} -> {new.get(name, 'absent')}"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]


SETTING_NAMES = tuple(item.name for item in fields(Settings))
