"""What ``mammotrain predict`` leaves behind: scores, boxes, overlays, failures."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammotrain import exams, metrics, scores
from mammotrain.predicting import boxes, overlays
from mammotrain.predicting.boxes import Found
from mammotrain.predicting.panel import Panel
from mammotrain.predicting.voices import ERROR, HEAT, MASK, Said
from mammotrain.scores import EXAM, FIXED, SOURCE, UNKNOWN, Scores

DIGITS = 6
DECISION, TAUGHT = "decision", "taught"
CORRECTED = "corrected"
FAILURES = "failures.jsonl"
Json = dict[str, Any]


@dataclass
class Findings:
    """Everything that was said, and what was not.

    Attributes:
        panel: Who was asked.
        out: The folder; overlays are written as they come.
        share: Of a heat map's highest value, from which a place belongs to a box.
        overlays: Whether pictures are drawn.
        keeps_masks: Whether predicted masks are kept.
        stated: The threshold that the user gives; None for the models' own.
        samples: A line a sample, for scores.csv and scores.json.
        boxes: Key -> its entry in boxes.json.
        masks: Key -> PNG of the predicted mask, on the stored picture's grid.
        failures: A line a file that could not be read.
        left_out: Code -> files, or samples, that are not asked about on purpose.
        undecided: Why there is no threshold -> samples.
        looked_at: Columns of the table that was asked about last.
        told: The examinations of its samples.
        kind: What the maps are.
        at: Probability from which a pixel belongs to a predicted mask.
        smallest: Pixels of the model's input; a smaller part of a mask is dropped.
    """

    panel: Panel
    out: Path
    share: float
    overlays: bool
    keeps_masks: bool
    stated: float | None = None
    samples: list[Json] = field(default_factory=list)
    boxes: dict[str, Json] = field(default_factory=dict)
    masks: dict[str, bytes] = field(default_factory=dict)
    failures: list[dict[str, str]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    undecided: Counter[str] = field(default_factory=Counter)
    looked_at: Mapping[str, Any] | None = None
    told: NDArray[np.str_] | None = None
    kind: str = ""
    at: float = 0.5
    smallest: int = 0

    def add(self, said: Said, taught: NDArray[np.bool_]) -> None:
        """Take in what was said of a batch.

        Args:
            said: Of these samples.
            taught: (n,) whether those who were asked have learned from them.
        """
        self.kind = said.kind
        settings: Any = getattr(said.setup.task, "config", None)  # where the run itself cuts masks
        self.at = getattr(settings, "threshold", self.at)
        self.smallest = getattr(settings, "smallest", self.smallest)
        told = self._examinations(said.setup.columns)
        for place, row in enumerate(said.rows.tolist()):
            line = _facts(said, place, row)
            line[EXAM] = "" if told is None else str(told[row])
            line |= self._probabilities(said, place) | self._decision(said, place)
            members = self.panel.members
            line["asked"] = [
                m.name for m, yes in zip(members, said.asked[place], strict=True) if yes
            ]
            line[TAUGHT] = bool(taught[place])
            self.samples.append(line)
            self._look(said, place, row, str(line["key"]))

    def _examinations(self, columns: Mapping[str, Any]) -> NDArray[np.str_] | None:
        """Return the examination of every sample of a table, found once for all its batches."""
        if self.looked_at is not columns:
            self.looked_at = columns
            self.told = exams.of_columns(columns, np.arange(len(columns["key"])))
        return self.told

    def _probabilities(self, said: Said, place: int) -> Json:
        """Return ``scores`` as the models gave them, and ``corrected``, None where none is."""
        names = self.panel.classes
        raw, values = (each[place].tolist() for each in (said.raw, said.values))
        corrected = dict(zip(names, values, strict=True)) if self.panel.corrects else None
        return {"scores": dict(zip(names, raw, strict=True)), CORRECTED: corrected}

    def _decision(self, said: Said, place: int) -> Json:
        """Return a sample's decision and threshold, None where there are none: that is counted."""
        how = self.panel.decides(said.asked[place], self.stated)
        if how.reason:
            self.undecided[how.reason] += 1
        found = metrics.decide(said.values[place][None], how.threshold)
        decision = None if found is None else self.panel.classes[int(found[0])]
        return {DECISION: decision, "threshold": how.threshold}

    def _look(self, said: Said, place: int, row: int, key: str) -> None:
        """Keep the boxes and the mask of a sample, and draw it."""
        columns = said.setup.columns
        rows, across = (int(side) for side in columns["geometry.size"][row])
        found: list[Found] = []
        values = None if said.maps is None else said.maps[place]
        if values is not None:
            large = boxes.on_picture(values, (rows, across))
            flags = boxes.without_specks(
                self._flags(large), self.smallest * rows * across / values.size
            )
            found = boxes.parts(flags, large, least=self._least(said, (rows, across)))
            if self.kind == HEAT:
                image = said.images[place].cpu().numpy()
                found = [f for f in found if not boxes.on_flat(f.box, image, (rows, across))]
            if self.keeps_masks:
                _, coded = cv2.imencode(".png", np.where(flags, 255, 0).astype(np.uint8))
                self.masks[key] = coded.tobytes()
        self.boxes[key] = self._entry(columns, row, found)
        if self.overlays:
            picture = overlays.grey_of(said.images[place])
            scale = np.array([picture.shape[1] / across, picture.shape[0] / rows] * 2)
            shown = [(np.array(each.box) * scale).tolist() for each in found]
            shown_values = None if values is None else overlays.Shown(values, self.kind, self.at)
            content = overlays.draw(picture, shown_values, shown)
            (self.out / "overlays").mkdir(exist_ok=True)
            (self.out / "overlays" / f"{key}.png").write_bytes(content)

    def _flags(self, values: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return what belongs to a lesion; of an error map, which tells of none, nothing."""
        if self.kind == MASK:
            return np.asarray(values >= self.at)
        highest = float(values.max())
        if self.kind == ERROR or highest <= 0:
            return np.zeros(values.shape, bool)
        return np.asarray(values >= self.share * highest)

    def _least(self, said: Said, size: tuple[int, int]) -> float:
        """Return the area of the smallest box that is kept, in pixels of the picture."""
        return 0.0 if said.grid is None else boxes.smallest(said.grid, size, self.share)

    def _entry(self, columns: Mapping[str, Any], row: int, found: Sequence[Found]) -> Json:
        geometry = boxes.geometry_of(columns, row)
        return {
            "size": list(geometry.size),
            "stored_size": list(geometry.stored_size),
            DECISION: self.samples[-1][DECISION],
            "boxes": [
                {
                    "picture": list(each.box),
                    "stored": [round(v, 3) for v in boxes.to_stored(each.box, geometry)],
                    "peak": round(each.peak, DIGITS),
                    "area": each.area,
                }
                for each in found
            ],
        }

    def table(self) -> Scores:
        """Return what was said as a run's scores are, in the order of ``samples``."""
        columns = {n: [line[n] for line in self.samples] for n in (*FIXED[:4], SOURCE)}
        labels = [UNKNOWN if line["label"] is None else line["label"] for line in self.samples]
        classes, rows = self.panel.classes, np.arange(len(self.samples))
        found = scores.from_columns(
            columns, rows, np.array(labels, np.int64), self._values("scores"), classes
        )
        exam = np.array([line[EXAM] or "" for line in self.samples], np.str_)
        found = replace(found, exam=exam if np.any(exam != "") else None)
        return found.corrected(self._values(CORRECTED)) if self.panel.corrects else found

    def _values(self, name: str) -> NDArray[np.float64]:
        classes = self.panel.classes
        found = [[line[name][each] for each in classes] for line in self.samples]
        return np.array(found, np.float64).reshape(len(found), len(classes))

    def write(self, about: Mapping[str, Any]) -> None:
        """Write scores.csv, scores.json, boxes.json and failures.jsonl; each whole or not at all.

        Args:
            about: What scores.json tells besides.
        """
        self.samples.sort(key=lambda line: str(line["key"]))
        failed = dict(sorted(Counter(line["code"] for line in self.failures).items()))
        counts = {
            "scored": len(self.samples),
            "failed": failed,
            "left_out": dict(sorted(self.left_out.items())),
            "undecided": dict(sorted(self.undecided.items())),
        }
        own = {
            DECISION: [line[DECISION] or "" for line in self.samples],
            TAUGHT: [str(int(line[TAUGHT])) for line in self.samples],
        }
        scores.write(self.out / "scores.csv", self.table(), own)
        apart = ("group", "label", EXAM, SOURCE)
        lines = [{n: v for n, v in line.items() if n not in apart} for line in self.samples]
        _write_json(self.out / "scores.json", {**about, "counts": counts}, lines)
        cut = {MASK: {"at": self.at}, HEAT: {"share": self.share}}.get(self.kind, {})
        found = [{"key": key, **entry} for key, entry in sorted(self.boxes.items())]
        _write_json(self.out / "boxes.json", {"from": self.kind or None, **cut}, found)
        _write(self.out / FAILURES, "".join(json.dumps(f) + "\n" for f in self.failures))


def mask_of(content: bytes) -> NDArray[np.uint8]:
    """Return a kept mask, uint8 (rows, columns), 0 or 255."""
    found = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    return np.asarray(found, np.uint8)


def _facts(said: Said, place: int, row: int) -> Json:
    """Return what a table knows of a sample that is part of its line of scores.csv."""
    columns, label = said.setup.columns, int(said.setup.task.classes[row])
    return {
        **{name: columns[name][row] for name in (*FIXED[:4], SOURCE)},
        "label": None if label == UNKNOWN else label,
    }


def _write_json(path: Path, about: Mapping[str, Any], samples: Sequence[Json]) -> None:
    """Write a JSON object that ends in ``samples``, a line each, so that people can search it."""
    head = json.dumps(dict(about), indent=1, allow_nan=False).removesuffix("\n}")
    lines = ",\n  ".join(json.dumps(line, allow_nan=False) for line in samples)
    _write(path, f'{head},\n "samples": [\n  {lines}\n ]\n}}\n')


def _write(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
