"""One way from file to finished PNG, in a process of its own: paths in, seconds out.

    python benchmarks/contestant.py NAME FOLDER

Reads one path a line from standard input, writes the PNG into FOLDER and answers one line of JSON:
processor and wall seconds and, for our own ways, what the decoder took. ``decode`` is no way to a
PNG but the decoder alone, on the whole frame.
"""

import json
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2

SIZE = (728, 1456)
OURS = ("exact", "fast")

Work = Callable[[Path, Path], dict[str, Any]]


def ours(mode: str) -> Work:
    """What the builder's child does, and the file."""
    from mammoprep import preparation
    from mammoprep.config import Settings
    from mammoprep.core.stages import listen
    from mammoprep.writers.sample import assemble

    steps = preparation.steps(Settings(size=SIZE))

    def work(path: Path, out: Path) -> dict[str, Any]:
        with listen() as clock:
            data = path.read_bytes()
            sha256(data).hexdigest()
            record = preparation.record_of(path)
            image = preparation.finish(data, record, steps, voi="auto", fast=mode == "fast")
            sample = assemble(image, label_names=[], format="png")
            (out / f"{path.stem}.png").write_bytes(sample.members[0][1])
        return {"decode": clock.seconds.get("decode", 0.0), "read_as": image.acquisition.decode}

    return work


def decode_only() -> Work:
    """The decoder on the whole frame; everything before it is not counted."""
    from mammoprep.decode import gate, header
    from mammoprep.decode.codecs import decode, read_frame

    def work(path: Path, _: Path) -> dict[str, Any]:
        data = path.read_bytes()
        meta = gate.check_file(data)
        dataset = header.parse(data)
        pixels = header.read_facts(dataset, meta.transfer_syntax, None).pixels
        frame = read_frame(dataset.get_item(header.PIXEL_DATA).value, pixels, 1)
        begun = time.thread_time()
        decode(frame)
        return {"decode": time.thread_time() - begun}

    return work


def notebook(name: str) -> Work:
    from peers import NOTEBOOKS

    def work(path: Path, out: Path) -> dict[str, Any]:
        NOTEBOOKS[name](path, out)
        return {}

    return work


def main() -> None:
    name, out = sys.argv[1], Path(sys.argv[2])
    cv2.setNumThreads(1)
    work = decode_only() if name == "decode" else ours(name) if name in OURS else notebook(name)
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        told = work(Path(line.strip()), out)
        seconds = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
        print(json.dumps({**seconds, **told}), flush=True)


if __name__ == "__main__":
    main()
