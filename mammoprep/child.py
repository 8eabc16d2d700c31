"""The child process that does a worker's heavy and dangerous work.

It reads one JSON request a line from its standard input and answers on the pipe that was its
standard
output: the length of a JSON header, the header, then the members' bytes. It ends when its input
ends, whatever it is doing, so that a killed parent leaves nothing behind.
"""

import json
import os
import queue
import resource
import struct
import sys
import threading
import traceback
import warnings
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from mammoprep.core.errors import RecordError

if TYPE_CHECKING:
    from mammoprep.decode.codecs import Frame

HEADER = struct.Struct("<I")


def main() -> None:
    """Serve requests until the parent closes the pipe."""
    answers = private_stdout()
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    warnings.simplefilter("ignore")  # a warning's text may hold a header's value
    settings = json.loads(requests.get())
    limit_memory(settings["memory"], on_gpu=settings["device"] != "cpu")
    serve = _Server(settings)
    answers.write(HEADER.pack(0))  # ready
    answers.flush()
    while True:
        request = json.loads(requests.get())
        _limit_cpu(settings["cpu_seconds"])
        header, members = serve.answer(request)
        text = json.dumps(header).encode()
        answers.write(HEADER.pack(len(text)) + text)
        for content in members:
            answers.write(content)
        answers.flush()


def private_stdout() -> BinaryIO:
    """Keep the answer pipe away from libraries that print to file descriptor 1."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


def _listen(requests: "queue.SimpleQueue[bytes]") -> None:
    for line in sys.stdin.buffer:
        requests.put(line)
    os._exit(0)  # the parent is gone; the main thread may be deep inside a decoder


def limit_memory(limit: int, *, on_gpu: bool = False) -> None:
    """Let this process use so many bytes, and leave no core dump, which would hold pixels."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # CUDA reserves more address space than any machine has memory; what it fills can be limited.
    kind = resource.RLIMIT_DATA if on_gpu else resource.RLIMIT_AS
    resource.setrlimit(kind, (limit, limit))


def _limit_cpu(seconds: int) -> None:
    """Let this record use so many more CPU seconds; SIGXCPU then ends the process, even in C."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + seconds
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


class _Server:
    """Everything that is set up once: libraries, input tree, steps."""

    def __init__(self, settings: dict[str, Any]) -> None:
        import cv2

        from mammoprep import preparation
        from mammoprep.config import Settings
        from mammoprep.core.tree import open_locator
        from mammoprep.decode import ahead

        cv2.setNumThreads(1)  # N workers use N cores
        self.settings = Settings.from_json(settings["settings"])
        self.label_names: list[str] = settings["label_names"]
        self.colour: bool = settings["colour"]
        self.secret: str = settings.get("secret", "")
        self.tree = open_locator(settings["locator"])
        self.steps = preparation.steps(self.settings)
        self.ahead = None if settings["device"] == "cpu" else ahead.open_ahead()
        self.prepared: set[str] = set()

    def answer(self, request: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        """Build one record, or say why not."""
        header, members = self._answer(request)
        return {**header, **({} if self.ahead is None else self.ahead.report())}, members

    def _answer(self, request: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        """Build one record; this and looking ahead catch everything."""
        progress: dict[str, Any] = {"stage": "read", "inputs": {}}
        try:
            if "survey" in request:
                return self._survey(request, progress), []
            self._look_ahead(request)
            return self._build(request, progress)
        except RecordError as error:
            return _failure(error.code, error.detail, progress), []
        except MemoryError:
            return _failure(
                "decode_oom", f"out of memory in stage {progress['stage']}", progress
            ), []
        except BaseException as error:  # noqa: BLE001 - decoders raise PanicException and worse
            code = "internal_error" if progress["stage"] == "steps" else "decode_error"
            return _failure(code, f"{type(error).__name__} at {_place(error)}", progress), []

    def _look_ahead(self, request: dict[str, Any]) -> None:
        """Let the device decode this record's frame and those of the next, unless it has."""
        known = request["record"]["key"] in self.prepared
        if self.ahead is None or request["ahead"] is None or known:
            return
        wanted = [request["record"], *request["ahead"]]
        self.prepared = {record["key"] for record in wanted}
        self.ahead.prepare(frame for record in wanted if (frame := self._frame(record)))

    def _frame(self, record: dict[str, Any]) -> "Frame | None":
        """Return a record's frame; None where it cannot be had, which its own turn will say."""
        from mammoprep.core.schema import Record
        from mammoprep.decode import dicom

        found = Record.from_json(record)
        try:
            return dicom.frame_of(self.tree.read(found.input), found)
        except BaseException:  # noqa: BLE001 - as in _answer
            return None

    def _survey(self, request: dict[str, Any], progress: dict[str, Any]) -> dict[str, Any]:
        """Let a source look at one file before anything is planned."""
        from mammoprep.core import plugins

        source = plugins.load("mammoprep.sources", request["survey"], needs=("survey",))
        data = self.tree.read(request["input"])
        _check_size(data, request["size"])
        progress["stage"] = "decode"
        finding = source.survey(data, self.secret) if self.secret else source.survey(data)
        return {"inputs": {}, "finding": finding, "samples": []}

    def _build(
        self, request: dict[str, Any], progress: dict[str, Any]
    ) -> tuple[dict[str, Any], list[bytes]]:
        from mammoprep import preparation
        from mammoprep.core.schema import Record
        from mammoprep.writers.sample import assemble

        record = Record.from_json(request["record"])

        def read(name: str) -> bytes:
            data = self.tree.read(name)
            progress["inputs"][name] = sha256(data).hexdigest()
            return data

        data = read(record.input)
        _check_size(data, request["size"])
        progress["stage"] = "decode"
        early = self.ahead.take if self.ahead and request["ahead"] is not None else None
        image = preparation.open_image(data, record, self.settings, colour=self.colour, early=early)
        del data
        image = preparation.annotate(
            image,
            read,
            values=self.settings.mask_values,
            patches=self.settings.roi is not None,
        )
        progress["stage"] = "steps"
        wanted = {"copies": request["copies"], "tiles": request["tiles"]}
        samples = [
            assemble(
                finished,
                label_names=self.label_names,
                format=self.settings.format,
                intersection=self.settings.intersection,
            )
            for finished in preparation.samples(image, self.steps, self.settings, **wanted)
        ]
        header = {
            "inputs": progress["inputs"],
            "samples": [
                {"metadata": sample.metadata, "members": [[n, len(c)] for n, c in sample.members]}
                for sample in samples
            ],
        }
        return header, [content for sample in samples for _, content in sample.members]


def _check_size(data: bytes, planned: int) -> None:
    if len(data) != planned:
        raise RecordError("input_changed", f"{planned} bytes planned, {len(data)} read")


def _failure(code: str, detail: str, progress: dict[str, Any]) -> dict[str, Any]:
    return {
        "inputs": progress["inputs"],
        "failure": {"code": code, "detail": detail},
        "samples": [],
    }


def _place(error: BaseException) -> str:
    """Return ``file.py:line`` of the deepest frame; never the message, which may hold a value."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "an unknown place"


if __name__ == "__main__":
    main()
