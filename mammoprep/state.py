"""The output folder: its lock, its sidecars, and what a build may write and delete there."""

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from mammoprep.core.errors import EXIT_LOCKED, ConfigError, ResourceError

STATE = ".state"
FINISHED = ("dataset.json", "samples.parquet", "failures.jsonl", "report.html", "build.json")
# Everything a build writes, and so everything that --fresh may remove.
WRITTEN = (*FINISHED, "shards", STATE)
OUT_OF_RESOURCES = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ESTALE, errno.EACCES,
    errno.EPERM, errno.EMFILE, errno.ENFILE,
}  # fmt: skip
CHUNK = 1 << 20


class Output:
    """A locked output folder.

    Attributes:
        root: The folder, resolved once.
    """

    def __init__(self, root: Path, handle: int) -> None:
        """Remember the folder and the open lock file."""
        self.root = root
        self._handle = handle

    @property
    def shards(self) -> Path:
        """Folder of the finished shards."""
        return self.root / "shards"

    def sidecar(self, shard: str) -> Path:
        """Path of a shard's sidecar."""
        return self.root / STATE / "shards" / f"{shard}.json"

    def stamp(self, shard: str) -> Path:
        """Path of a shard's input stamp; only there until the build is complete."""
        return self.root / STATE / "stamps" / f"{shard}.txt"

    def check_lock(self) -> None:
        """Raise ResourceError unless the lock file on disk is still the one this build holds."""
        mine = os.fstat(self._handle)
        try:
            there = (self.root / STATE / "lock").stat()
        except OSError:
            there = None
        if there is None or (mine.st_dev, mine.st_ino) != (there.st_dev, there.st_ino):
            raise ResourceError(
                f"{self.root} was replaced while this build was running; nothing more is written.",
                EXIT_LOCKED,
            )

    def publish(self, part: Path, final: Path) -> None:
        """Rename a finished, synced file to its final name, if the folder is still this build's."""
        self.check_lock()
        part.replace(final)
        sync_folder(final.parent)

    def write(self, final: Path, content: bytes) -> None:
        """Write a small file whole or not at all."""
        part = final.with_name(f".{final.name}.part")
        part.unlink(missing_ok=True)
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        self.publish(part, final)

    def prepare_folders(self) -> None:
        """Make the folders and remove what an interrupted build left half-written."""
        for folder in (self.shards, self.root / STATE / "shards", self.root / STATE / "stamps"):
            if folder.is_symlink():
                raise ConfigError(f"{folder} is a symbolic link; a build writes only below --out.")
            folder.mkdir(exist_ok=True)
            for part in folder.glob(".*.part"):
                part.unlink()
        for part in self.root.glob(".*.part"):
            part.unlink()

    def clear(self) -> None:
        """Remove what a build writes, and nothing else (``--fresh``); the lock stays."""
        for name in FINISHED:
            (self.root / name).unlink(missing_ok=True)
        for folder in (self.shards, self.root / STATE / "shards", self.root / STATE / "stamps"):
            if folder.is_symlink():
                folder.unlink()
            elif folder.is_dir():
                shutil.rmtree(folder)
        for name in ("settings.json", "survey.json"):
            (self.root / STATE / name).unlink(missing_ok=True)


@contextmanager
def hold(root: Path) -> Iterator[Output]:
    """Create the folder if needed and hold its lock.

    Raises:
        ConfigError: the path is no folder, or holds files that no build wrote.
        ResourceError: another build holds it (exit status 7).
    """
    check_is_output(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ConfigError(
            f"--out {root} cannot be a folder: a part of its path is a file."
        ) from None
    except OSError as error:
        raise ConfigError(f"--out {root} cannot be made: {error.strerror}.") from None
    root = root.resolve()
    (root / STATE).mkdir(exist_ok=True)
    handle = os.open(root / STATE / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise ResourceError(
                f"Another build holds {root}. Wait for it, or give another --out.", EXIT_LOCKED
            ) from None
        raise
    try:
        yield Output(root, handle)
    finally:
        os.close(handle)


def check_is_output(root: Path) -> None:
    """Raise ConfigError when ``root`` holds something that no build wrote."""
    if not root.exists():
        return
    if not root.is_dir():
        raise ConfigError(f"--out {root} is a file; expected a folder or a new name.")
    if (root / STATE).is_symlink():
        raise ConfigError(f"{root / STATE} is a symbolic link; a build writes only below --out.")
    foreign = sorted(item.name for item in root.iterdir() if item.name not in WRITTEN)
    foreign = [name for name in foreign if not name.endswith(".part")]
    if foreign and not (root / STATE).is_dir():
        raise ConfigError(
            f"--out {root} is not empty and is no earlier build (found {foreign[0]}). "
            "Give an empty or new folder."
        )


def check_is_new(root: Path) -> None:
    """Raise ConfigError when ``root`` is anything but a new or an empty folder."""
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise ConfigError(f"--out {root} is not empty. Give a new or an empty folder.")


@contextmanager
def output_errors(root: Path) -> Iterator[None]:
    """Turn a full or failing disk into ResourceError (exit status 5) that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in OUT_OF_RESOURCES:
            raise
        free = shutil.disk_usage(root if root.exists() else Path("/")).free
        name = errno.errorcode.get(error.errno or 0, "OSError")
        raise ResourceError(
            f"Cannot write below {root} ({name}; {free >> 20} MiB free). What is finished is kept: "
            "make room or mend the disk, then run the same command again."
        ) from error


def read_json(path: Path) -> Any:
    """Return the content of a JSON file, or None when it is absent or damaged."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a file that holds one JSON object a line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def to_bytes(value: Any) -> bytes:
    """Return canonical JSON: sorted keys, two spaces, one newline at the end."""
    return (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()


def seal(value: Mapping[str, Any]) -> bytes:
    """Return JSON that states the hash of its own content, so that any change is noticed."""
    content = {key: item for key, item in value.items() if key != "content_sha256"}
    digest = sha256(to_bytes(content)).hexdigest()
    return to_bytes({**content, "content_sha256": digest})


def read_sealed(path: Path) -> dict[str, Any] | None:
    """Return what ``seal`` wrote, or None when it is absent or any bit of it was changed."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    value = read_json(path)
    return value if isinstance(value, dict) and seal(value) == content else None


def hash_file(path: Path) -> tuple[int, str]:
    """Return (bytes, SHA-256) of a file."""
    digest, size = sha256(), 0
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            digest.update(block)
            size += len(block)
    return size, digest.hexdigest()


def sync_folder(folder: Path) -> None:
    """Force a folder's entries to disk, so that a rename survives a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
