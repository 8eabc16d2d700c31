"""The parent's end of a child process: start, ask, notice death, ask once more, end."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from mammoprep.child import HEADER
from mammoprep.config import Limits
from mammoprep.core.errors import ResourceError

ANSWER_LIMIT = 1 << 30
ATTEMPTS = 2
MOST_DEVICE_DEATHS = 3
DEVICE_DIED = (
    f"--device cuda: {MOST_DEVICE_DEATHS} processes died while using it; "
    "the CPU decodes from here on"
)
# What a child may inherit: where programs and libraries are, nothing that could be a credential.
INHERITED = (
    "PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV",
    "SYSTEMROOT", "TMPDIR", "CUDA_VISIBLE_DEVICES", "CUDA_PATH",
)  # fmt: skip
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
# glibc: keep freed memory for the next image instead of giving it back and faulting it in again;
# 6 % of the time of a full-size image, for 13 % more memory.
KEEP_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 32),
    "MALLOC_TOP_PAD_": str(1 << 26),
}
# -P: the folder that the user stands in is no place to import from.
COMMAND = (sys.executable, "-P", "-m", "mammoprep.child")


class ChildDiedError(Exception):
    """The child ended while it worked on a request; ``code`` and ``detail`` say how."""

    def __init__(self, code: str, detail: str) -> None:
        """Remember how it ended."""
        super().__init__(code)
        self.code, self.detail = code, detail


@dataclass(frozen=True)
class Answer:
    """What the child made of one record.

    Attributes:
        header: ``samples`` or ``failure``, ``inputs`` (file -> SHA-256).
        samples: For each its metadata, and its members as (suffix, bytes).
    """

    header: dict[str, Any]
    samples: tuple[tuple[dict[str, Any], tuple[tuple[str, bytes], ...]], ...] = ()


class Child:
    """One long-lived child process; started on first use and again whenever it died."""

    def __init__(
        self,
        settings: dict[str, Any],
        limits: Limits,
        stop: threading.Event,
        command: tuple[str, ...] = COMMAND,
    ) -> None:
        """Remember what to start.

        Args:
            settings: First line that the child reads: settings, label names, locator, device.
            limits: What it may use for one record.
            stop: Set when the build is being interrupted; a death then is no failure.
            command: How to start it.
        """
        self._hello = {
            **settings,
            "memory": limits.memory,
            "cpu_seconds": limits.cpu_seconds,
        }
        self._wall_seconds = limits.wall_seconds
        self._stop = stop
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._overdue = False
        self._ready = False
        self._device_deaths = 0

    def ask(self, request: dict[str, Any]) -> Answer:
        """Return the child's answer; a record that kills two children in a row is a failure.

        The second try leaves everything to the CPU.

        Args:
            request: ``record``, ``size`` in bytes, and ``ahead``: the records asked for next.

        Raises:
            ResourceError: the build is being interrupted.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                answer = self._ask_once(request)
                return self._blame_device(answer) if attempt > 1 else answer
            except ChildDiedError as death:
                self.kill()
                request = {**request, "ahead": None}
                if self._stop.is_set():
                    raise ResourceError("Interrupted.") from None
                failure = {"code": death.code, "detail": f"{death.detail}, {attempt} attempts"}
        if not self._ready:  # the last one died before it had even seen the record
            raise RuntimeError(f"the child process does not start: {self._command}")
        return Answer({"inputs": {}, "failure": failure})

    def _blame_device(self, answer: Answer) -> Answer:
        """Count a record that only the CPU could build; do without the device after too many."""
        if self._hello["device"] == "cpu" or "failure" in answer.header:
            return answer
        self._device_deaths += 1
        if self._device_deaths < MOST_DEVICE_DEATHS:
            return answer
        self._hello["device"] = "cpu"
        self.kill()
        return replace(answer, header={**answer.header, "notices": [DEVICE_DIED]})

    def _ask_once(self, request: dict[str, Any]) -> Answer:
        process = self._process or self._start()
        self._overdue = False
        alarm = threading.Timer(self._wall_seconds, self._give_up)
        alarm.daemon = True
        alarm.start()
        try:
            _send(process, request)
            (length,) = HEADER.unpack(self._receive(process, HEADER.size))
            header = json.loads(self._receive(process, min(length, ANSWER_LIMIT)))
            samples = tuple(
                (sample["metadata"], self._members(process, sample["members"]))
                for sample in header["samples"]
            )
        except BrokenPipeError:
            raise self._death(process) from None
        finally:
            alarm.cancel()
        return Answer(header, samples)

    def _start(self) -> subprocess.Popen[bytes]:
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # decoders print header values
            env={**environment, **ONE_THREAD, **KEEP_MEMORY, "PYTHONHASHSEED": "0"},
            start_new_session=True,  # Ctrl-C goes to the parent, which ends the children in order
        )
        self._process, self._ready = process, False
        try:
            _send(process, self._hello)
            self._receive(process, HEADER.size)
        except BrokenPipeError:
            raise self._death(process) from None
        self._ready = True
        return process

    def _members(
        self, process: subprocess.Popen[bytes], listed: list[tuple[str, int]]
    ) -> tuple[tuple[str, bytes], ...]:
        return tuple((str(suffix), self._receive(process, int(size))) for suffix, size in listed)

    def _receive(self, process: subprocess.Popen[bytes], size: int) -> bytes:
        data = process.stdout.read(size) if process.stdout else b""
        if len(data) != size:
            raise self._death(process)
        return data

    def _death(self, process: subprocess.Popen[bytes]) -> ChildDiedError:
        try:
            status = process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        if self._overdue or status == -signal.SIGXCPU:
            limit = "wall time" if self._overdue else "processor time"
            return ChildDiedError("decode_timeout", f"decoding exceeded its {limit} limit")
        if status < 0:
            return ChildDiedError("decode_crash", f"decoder killed by signal {-status}")
        return ChildDiedError("decode_crash", f"decoder process ended with status {status}")

    def _give_up(self) -> None:
        self._overdue = True
        if self._process is not None:
            self._process.kill()

    def interrupt(self) -> None:
        """End the child from another thread; its own thread notices and cleans up."""
        if self._process is not None:
            self._process.kill()

    def kill(self) -> None:
        """End the child now."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def _send(process: subprocess.Popen[bytes], message: dict[str, Any]) -> None:
    if process.stdin is not None:
        process.stdin.write(json.dumps(message).encode() + b"\n")
        process.stdin.flush()


@contextlib.contextmanager
def ending(children: Sequence[Child], stop: threading.Event) -> Iterator[ThreadPoolExecutor]:
    """Lend a thread a child; end all of them in every case, also in the middle of a file."""
    pool = ThreadPoolExecutor(len(children))
    try:
        yield pool
    finally:
        stop.set()
        for child in children:
            child.interrupt()
        pool.shutdown(cancel_futures=True)
        for child in children:
            child.kill()
