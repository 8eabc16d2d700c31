"""What stays with the owner of files that name patients: the key, and the table of who is who."""

import csv
import os
import stat
from collections.abc import Iterable
from io import StringIO
from pathlib import Path
from typing import Any

from mammoprep.config import BuildConfig
from mammoprep.core import cards
from mammoprep.core.errors import ConfigError
from mammoprep.core.pseudonyms import pseudonym
from mammoprep.core.schema import Record
from mammoprep.state import output_errors, sync_folder

KEY_BYTES = 16, 1 << 16
MAKE_KEY = "(umask 077; head -c 32 /dev/urandom > my.key)"
COLUMNS = ("id", "path", "key", "group", "study_id", "laterality", "view", "left_out")
OTHERS = stat.S_IRWXG | stat.S_IRWXO
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def own_key(config: BuildConfig) -> dict[str, Any]:
    """Return the user's key as a field of the source's card, after every check of where it lies.

    Raises:
        ConfigError: the source needs a key and there is none, takes none and there is one, the file
            is no key, or a private file or the output is in the wrong place.
    """
    if not cards.load(config.source).keyed:
        for option, path in (("--key-file", config.key_file), ("--id-map", config.id_map)):
            if path is not None:
                raise ConfigError(
                    f"{option} is for --source dicom; the identifiers of {config.source} are "
                    "public already."
                )
        return {}
    if config.key_file is None:
        raise ConfigError(
            f"--key-file is missing: --source {config.source} replaces identifiers and paths by "
            f"keyed hashes. Make a key once and keep it, outside of --out: {MAKE_KEY}"
        )
    if config.out.resolve().is_relative_to(config.input.resolve()):
        raise ConfigError(
            f"--out {config.out} lies in --input {config.input}, where every file is an input, so "
            "that the next run would read what this one writes. Give an --out elsewhere."
        )
    if config.id_map is not None:
        _check_id_map(config.id_map, config)
    return {"secret": _read_key(config.key_file, config).hex()}


def check_value(secret: str) -> str | None:
    """Return what tells one key from another and nothing else; part of a dataset's settings."""
    return pseudonym(secret, "key") if secret else None


def warnings(config: BuildConfig) -> list[str]:
    """Return a line for the user when others can read the key."""
    if config.key_file is None or not config.key_file.stat().st_mode & OTHERS:
        return []
    return [f"Other users may read {config.key_file}: chmod 600 {config.key_file}"]


def _read_key(path: Path, config: BuildConfig) -> bytes:
    low, high = KEY_BYTES
    if path.resolve().is_relative_to(config.out.resolve()):
        raise ConfigError(f"--key-file {path} lies in --out, which is to be shared; move it away.")
    if not path.is_file():  # a pipe would be empty the second time
        raise ConfigError(f"--key-file {path} is no regular file. To make one: {MAKE_KEY}")
    try:
        with path.open("rb") as file:
            key = file.read(high + 1)
    except OSError as error:
        raise ConfigError(f"--key-file {path} cannot be read ({type(error).__name__}).") from None
    if not low <= len(key) <= high:
        found = f"{len(key)}" if len(key) <= high else "more"
        raise ConfigError(
            f"--key-file {path} must hold {low} to {high} bytes, found {found}. "
            f"To make one: {MAKE_KEY}"
        )
    return key


def _check_id_map(path: Path, config: BuildConfig) -> None:
    for option, folder in (("--out", config.out), ("--input", config.input)):
        if path.resolve().is_relative_to(folder.resolve()):
            raise ConfigError(f"--id-map {path} lies in {option}; it must stay apart from both.")
    if not path.parent.is_dir():
        raise ConfigError(f"--id-map {path}: there is no folder {path.parent}.")
    if os.path.lexists(path) and not _is_id_map(path):
        raise ConfigError(f"--id-map {path} is no earlier id map; it is not overwritten.")


def _is_id_map(path: Path) -> bool:
    header = f"{','.join(COLUMNS)}\n".encode()
    try:
        if path.is_symlink() or not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(header)) == header
    except OSError:
        return False


def write_id_map(path: Path | None, records: Iterable[Record]) -> None:
    """Write which file each identifier stands for: CSV, whole or not at all, for its owner alone.

    Args:
        path: Checked by ``own_key``; nothing is written without one.
        records: As the plan sees them.

    Raises:
        ResourceError: the disk is full or fails.
    """
    if path is None:
        return
    text = StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows(_row(record) for record in records)
    # A name of a file may be any bytes; it comes back as the bytes that it was.
    content = text.getvalue().encode("utf-8", "surrogateescape")
    part = path.with_name(f".{path.name}.part")
    with output_errors(path.parent):
        part.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(part, flags, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync_folder(path.parent)


def _row(record: Record) -> tuple[str | None, ...]:
    # A spreadsheet takes a cell that begins with one of these for a formula; the path is the same.
    path = f"./{record.input}" if record.input.startswith(_FORMULA) else record.input
    failed = record.failed["code"] if record.failed else None
    return (
        record.name,
        path,
        record.key,
        record.group,
        record.study_id,
        record.laterality,
        record.view,
        record.excluded or failed,
    )
