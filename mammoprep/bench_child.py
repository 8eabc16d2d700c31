"""The child of ``mammoprep bench``: opens files, and says which kind they are or what they cost.

It speaks as a build's child does: a line of JSON in, a length and a JSON header out.
"""

import json
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from mammoprep import preparation
from mammoprep.child import HEADER, limit_memory, private_stdout
from mammoprep.config import Settings
from mammoprep.core.errors import RecordError
from mammoprep.core.stages import listen, stage
from mammoprep.core.tree import open_locator
from mammoprep.decode import gate, header
from mammoprep.decode.codecs import DECODERS
from mammoprep.writers.sample import assemble
from mammoprep.writers.tar import TarWriter

# Column of the table -> the stages that it sums up; what is in none of them is "other".
STAGES = {
    "read": ("read",),
    "header": ("header",),
    "decode": ("decode",),
    "gray": ("gray",),
    "mask": ("find-breast",),
    "crop": ("orient", "crop"),
    "resize": ("resize", "blank-labels", "draw-lesions"),
    "quantise": ("quantise",),
    "encode": ("encode",),
    "write": ("write",),
}
Group = tuple[str, int, int]
Times = dict[str, float]


def main() -> None:
    """Serve measurements until the parent closes the pipe."""
    answers = private_stdout()
    warnings.simplefilter("ignore")  # a warning's text may hold a header's value
    hello = json.loads(sys.stdin.buffer.readline())
    limit_memory(hello["memory"])
    with _Meter.start(hello) as meter:
        answers.write(HEADER.pack(0))  # ready
        answers.flush()
        for line in sys.stdin.buffer:
            text = json.dumps({**meter.answer(json.loads(line)), "samples": []}).encode()
            answers.write(HEADER.pack(len(text)) + text)
            answers.flush()


class _Meter:
    """The child's side: everything that is set up once."""

    def __init__(self, hello: dict[str, Any], scratch: Path) -> None:
        import cv2

        cv2.setNumThreads(1)
        self._tree = open_locator(hello["locator"])
        self._steps = preparation.steps(Settings.from_json(hello["settings"]))
        self._part = scratch / "part.tar"

    @classmethod
    @contextmanager
    def start(cls, hello: dict[str, Any]) -> Iterator["_Meter"]:
        with tempfile.TemporaryDirectory() as scratch:
            yield cls(hello, Path(scratch))

    def answer(self, request: dict[str, str]) -> dict[str, Any]:
        try:
            if "look" in request:
                return self._look(request["look"])
            return {"times": self._measure(request["measure"], request["mode"])}
        except RecordError as error:
            return {"failure": {"code": error.code}}
        except MemoryError:
            return {"failure": {"code": "decode_oom"}}
        except BaseException:  # noqa: BLE001 - decoders raise PanicException and worse
            return {"failure": {"code": "decode_error"}}

    def _look(self, name: str) -> dict[str, Any]:
        begun, used = time.perf_counter(), time.thread_time()
        data = self._tree.read(name)
        waited = (time.perf_counter() - begun) - (time.thread_time() - used)
        meta = gate.check_file(data)
        pixels = header.read_facts(header.parse(data), meta.transfer_syntax, None).pixels
        known = meta.transfer_syntax in DECODERS
        syntax = meta.transfer_syntax if known else "other"
        return {"group": (syntax, pixels.rows or 0, pixels.columns or 0), "wait": max(waited, 0.0)}

    def _measure(self, name: str, mode: str) -> Times:
        begun = time.thread_time()
        with listen() as clock:
            with stage("read"):
                data = self._tree.read(name)
                sha256(data).hexdigest()  # as a build does
            record = preparation.record_of(Path(name))
            image = preparation.finish(data, record, self._steps, voi="auto", fast=mode == "fast")
            with stage("encode"):
                sample = assemble(image, label_names=[], format="png")
            with stage("write"), TarWriter(self._part) as tar:
                tar.add(sample.key, sample.members)
        total = time.thread_time() - begun
        times = {
            column: sum(clock.seconds.get(name, 0.0) for name in names)
            for column, names in STAGES.items()
        }
        return {**times, "other": max(total - sum(times.values()), 0.0)}


if __name__ == "__main__":
    main()
