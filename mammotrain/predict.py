"""A finished run and pictures -> scores, boxes and overlays; no truth is needed or looked at."""

import csv
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mammoprep
from mammoprep.core.codes import explain
from mammoprep.core.errors import ConfigError
from mammotrain import distributed, folder, setup, submission
from mammotrain.data.pictures import CROP, IMAGE
from mammotrain.data.shards import Table
from mammotrain.predicting import panel as panels
from mammotrain.predicting import unlabelled
from mammotrain.predicting.held import Held
from mammotrain.predicting.panel import Panel
from mammotrain.predicting.voices import Voices
from mammotrain.predicting.written import FAILURES, Findings, mask_of
from mammotrain.priors import Prior
from mammotrain.watching import Watcher

FORMAT_VERSION = 1
DATASET = "dataset"
TAUGHT, COPIES = "learned_from", "augmented_copies"  # why a sample is not asked about
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Request:
    """What is asked.

    Attributes:
        run: Folder of a finished run or cv.
        input: Shards; or a DICOM file, a folder or a zip of such.
        out: A new or empty folder.
        tta: Name in ``predicting.voices.VIEWS``: in which positions a picture is shown.
        masks: Write shards with the predicted masks.
        overlays: Draw the pictures.
        everything: Samples that all models have learned from are asked about, too.
        share: Of a heat map's highest value, from which a place belongs to a box.
        id_map: Where to write which file each key stands for; private.
        device: ``auto``, ``cpu`` or ``cuda``.
        threshold: From which probability on (the corrected one where there is one) the second of
            two classes is said; None for the models' own.
    """

    run: Path
    input: str
    out: Path
    tta: str = "none"
    masks: bool = False
    overlays: bool = True
    everything: bool = False
    share: float = 0.5
    id_map: Path | None = None
    device: str = "auto"
    threshold: float | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        findings: All of it, as it was written.
        dataset: The folder of the new shards, or None.
        breasts: Rows of ``submission.csv``; None where there is none.
    """

    findings: Findings
    dataset: Path | None
    breasts: int | None = None

    @property
    def failed(self) -> int:
        """How many files could not be read."""
        return len(self.findings.failures)


def predict(request: Request, watcher: Watcher) -> Outcome:
    """Ask a run, or all runs of a cv, about pictures, and write what they say.

    A sample is asked of the models that have not learned from its group: of a cv, on the shards
    that it was trained with, that is the one fold that left it out, and on new ones all of them.

    Raises:
        ConfigError: an option, the run, the input or the folder is wrong; nothing was written.
        DamageError: damaged shards or weights.
        ResourceError: the folder is in use.
    """
    if not 0 < request.share <= 1:
        raise ConfigError(f"--share must be above 0 and at most 1, got {request.share:g}.")
    panel = panels.open_panel(request.run)
    _check_threshold(request.threshold, panel)
    with distributed.joined(request.device) as world:
        if world.size > 1:
            raise ConfigError("mammotrain predict is one process: start it without torchrun.")
        # a place in a part of a picture is no place in the picture
        maps = panel.config.data.member != CROP
        if not maps:
            watcher.warn("The run sees what lies around masks: it gives no maps and no boxes.")
        voices = Voices(panel, request.tta, world, maps=maps)
        _warn_of_flips(panel, request, watcher)
        if _is_dataset(request.input):
            table = _shards(request, panel, watcher)
            with folder.held(request.out, resume=None):
                findings = _begin(request, panel)
                _ask_shards(request, table, voices, findings, watcher)
                breasts = submission.save(request.out, findings.samples, table, watcher.warn)
                return replace(_end(request, findings), breasts=breasts)
        files = _files(request, panel)
        with folder.held(request.out, resume=None):
            findings = _begin(request, panel)
            _ask_files(request, files, voices, findings, watcher)
            return _end(request, findings)


def _check_threshold(stated: float | None, panel: Panel) -> None:
    if stated is None:
        return
    if len(panel.classes) > 2:
        raise ConfigError(
            f"--threshold is for two classes; {panel.place} has {len(panel.classes)}, of which the "
            "most probable is said."
        )
    if not 0 < stated <= 1:
        raise ConfigError(f"--threshold must be above 0 and at most 1, got {stated:g}.")


def _begin(request: Request, panel: Panel) -> Findings:
    return Findings(
        panel, request.out, request.share, request.overlays, request.masks, request.threshold
    )


def _end(request: Request, findings: Findings) -> Outcome:
    panel = findings.panel
    findings.write(
        {
            "format_version": FORMAT_VERSION,
            "recipe": panel.config.recipe,
            "weights_sha256": _weights(panel),
            "classes": list(panel.classes),
            "prior": {member.name: _prior(member.prior) for member in panel.members},
            "threshold": _rule(request, panel),
            "tta": request.tta,
        }
    )
    return Outcome(findings, _write_shards(request, findings) if request.masks else None)


def _is_dataset(given: str) -> bool:
    """Return whether the input is shards, finished or not; else it is files."""
    place = Path(given)
    return "://" in given or (place / "dataset.json").is_file() or (place / ".state").is_dir()


def _shards(request: Request, panel: Panel, watcher: Watcher) -> Table:
    """Return the samples, prepared as the run knows them; raises ConfigError."""
    table = setup.open_shards(panel.config, (request.input,), watcher.warn)
    unlabelled.check_prepared(panel.members[0], table)
    if request.masks:
        _check_masks(request, panel, table)
    return table


def _check_masks(request: Request, panel: Panel, table: Table) -> None:
    if "://" in request.input:
        raise ConfigError("--masks needs shards in a local folder, whose images it copies.")
    if unlabelled.task_of(panel.members[0], unlabelled.known_of(table)).wants_masks:
        return
    raise ConfigError(
        f"--masks needs a run that predicts masks; {request.run} is of task "
        f"{panel.config.task_name!r}. mammotrain recipes lists those of task segment."
    )


def _ask_shards(
    request: Request, table: Table, voices: Voices, findings: Findings, watcher: Watcher
) -> None:
    panel, columns = findings.panel, table.columns
    may = panel.may_ask(columns)
    copies = np.array([bool(value) for value in columns["augmented"]], bool)
    taught = np.asarray(~may.any(axis=1), np.bool_)
    wanted = ~copies & (request.everything | ~taught)
    findings.left_out[COPIES] += int(copies.sum())
    findings.left_out[TAUGHT] += int((~copies & ~wanted).sum())
    rows: Rows = np.flatnonzero(wanted).astype(np.int64)
    if lost := findings.left_out[TAUGHT]:
        watcher.warn(
            f"{lost:,} {'sample is' if lost == 1 else 'samples are'} left out, because the run has "
            "learned from them (or chosen its threshold on them). The folder of a cv has a model "
            "for each; --all asks all the same."
        )
    if not rows.size:
        raise ConfigError(f"No sample of {request.input} is left to ask about.")
    asked = may | taught[:, None]
    for said in voices.answers(table, rows, asked):
        findings.add(said, taught[said.rows])
        watcher.count("samples", len(findings.samples), len(rows))
    findings.left_out = +findings.left_out


def _files(request: Request, panel: Panel) -> Iterator[Any]:
    """Return what the run's own preparation makes of each file; raises ConfigError."""
    if request.masks:
        raise ConfigError("--masks writes shards made from shards; the input is files.")
    about = panel.about["preparation"]
    if about["roi"]:
        raise ConfigError(
            f"{request.run} was trained on patches (--roi): it knows what a lesion looks like that "
            "somebody has outlined, and not where one is in a whole picture. Give shards of "
            "patches, or a run of whole pictures."
        )
    if panel.config.data.member != IMAGE:
        raise ConfigError(
            f"{request.run} was trained on {panel.config.data.member}, pictures shown by a mask, "
            "and files have none. Give shards that have them, such as those of mammotrain predict "
            "--masks by the run that found the masks."
        )
    _check_id_map(request)
    if not Path(request.input).exists():
        raise ConfigError(
            f"{request.input} does not exist. Give a folder of shards, a DICOM file, or a folder "
            "or a zip of DICOM."
        )
    workers = max(1, panel.config.data.workers)
    found: Iterator[Any] = mammoprep.prepare_files(request.input, about, workers=workers)
    return found


def _check_id_map(request: Request) -> None:
    place = request.id_map
    if place is None:
        return
    inside = (request.out.resolve(), Path(request.input).resolve())
    if any(place.resolve().is_relative_to(path) for path in inside):
        raise ConfigError(f"--id-map {place} names people: keep it out of input and --out.")
    if place.exists():
        raise ConfigError(f"--id-map {place} exists; give a new file.")


def _ask_files(
    request: Request, files: Iterator[Any], voices: Voices, findings: Findings, watcher: Watcher
) -> None:
    panel, names, odd = findings.panel, list[tuple[str, str]](), Counter[str]()
    while batch := list(islice(files, panel.config.train.batch_size)):
        names += [(file.key, file.path) for file in batch]
        _note_unread(findings, batch)
        made = [file for file in batch if file.metadata is not None]
        odd.update(code for file in made for code in file.metadata["warnings"])
        if made:
            table = Held(made, panel.about["preparation"])
            asked = np.ones((len(table), len(panel.members)), bool)
            rows = np.arange(len(table), dtype=np.int64)
            for said in voices.answers(table, rows, asked):
                findings.add(said, np.zeros(len(said.rows), bool))
        watcher.count("files", len(names), len(names))
    if not (findings.samples or findings.failures):
        raise _nothing(request, findings, len(names))
    for code, count in odd.most_common():
        meaning, remedy = explain(code)
        watcher.warn(f"{count:,} of {len(names):,} files: {code}. {meaning} {remedy}")
    if request.id_map is not None:
        _write_id_map(request.id_map, names)


def _note_unread(findings: Findings, batch: list[Any]) -> None:
    """Note the files that rules leave out, and those that cannot be read."""
    for file in batch:
        if file.excluded:
            findings.left_out[file.code] += 1
        elif file.code:
            line = {"input": file.key, "code": file.code, "detail": file.detail}
            findings.failures.append(line)


def _nothing(request: Request, findings: Findings, files: int) -> ConfigError:
    """Return what to say of an input of which rules leave nothing: another one was meant."""
    why = ", ".join(f"{code} {count:,}" for code, count in sorted(findings.left_out.items()))
    return ConfigError(
        f"{request.input} holds no picture to ask about: {files:,} files, all left out by rule "
        f"({why or 'none'}). Expected mammograms for presentation or processing, as DICOM."
    )


def _write_id_map(path: Path, names: list[tuple[str, str]]) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8", newline="", errors="backslashreplace") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("key", "path"))
        # a path that begins like a formula would be one, in a spreadsheet
        table.writerows((key, f"./{p}" if p[:1] in "=+-@\t\r" else p) for key, p in names)


def _warn_of_flips(panel: Panel, request: Request, watcher: Watcher) -> None:
    """Say when pictures are shown as training never showed them."""
    policy = panel.config.data.augmentation
    for axis in ("horizontal", "vertical"):
        if request.tta in (axis, "flip") and not policy.get(f"flip_{axis}"):
            watcher.warn(f"--tta: this run was never shown pictures with a {axis} flip.")
    if request.tta != "none" and len(panel.classes) == 2 and request.threshold is None:
        watcher.warn("--tta: thresholds were chosen on pictures that were not flipped.")


def _write_shards(request: Request, findings: Findings) -> Path:
    """Write the dataset of predicted masks, and return its folder."""
    place = request.out / DATASET
    made_by = {
        "recipe": findings.panel.config.recipe,
        "weights_sha256": _weights(findings.panel),
        "at": findings.at,
        "tta": request.tta,
        "learned_from": sum(line["taught"] for line in findings.samples),
    }

    def mask(key: str) -> NDArray[np.uint8] | None:
        content = findings.masks.get(key)
        return None if content is None else mask_of(content)

    mammoprep.write_shards(request.input, place, mask, made_by=made_by)
    return place


def _weights(panel: Panel) -> dict[str, str]:
    """Return member -> hash of the weights that were asked."""
    return {member.name: member.weights_sha256 for member in panel.members}


def _rule(request: Request, panel: Panel) -> str:
    """Return where the thresholds come from, in words."""
    if len(panel.classes) > 2:
        return "none: the most probable class is said"
    if request.threshold is not None:
        return f"stated by the user: {request.threshold!r}"
    flips = "" if request.tta == "none" else ", chosen on pictures that were not flipped"
    return f"of the one model that was asked, by its validation samples{flips}"


def _prior(prior: Prior | None) -> dict[str, list[float]] | None:
    if prior is None:
        return None
    return {"sampled": list(prior.sampled), "natural": list(prior.natural)}


def summary(outcome: Outcome, out: Path) -> str:
    """Return what the command line prints at the end."""
    findings = outcome.findings
    said = findings.samples
    lines = [f"{len(said):,} {'picture was' if len(said) == 1 else 'pictures were'} scored."]
    decided = [line["decision"] for line in said if line["decision"] is not None]
    lines += [f"  {name:<20}{decided.count(name):,}" for name in findings.panel.classes if decided]
    for reason, count in sorted(findings.undecided.items()):
        whole = "  Nothing was decided" if count == len(said) else f"  {count:,} were not decided"
        lines.append(f"{whole}: {reason}.")
    if outcome.failed:
        lines.append(f"{outcome.failed:,} could not be read: {out / FAILURES}")
    for code, count in sorted(findings.left_out.items()):
        lines.append(f"{count:,} {'was' if count == 1 else 'were'} left out: {code}")
    if outcome.dataset is not None:
        lines.append(f"Shards with the predicted masks: {outcome.dataset}")
    if outcome.breasts is not None:
        lines.append(f"Breasts for the challenge, {outcome.breasts:,}: {out / submission.FILE}")
    return "\n".join([*lines, f"Look at: {out / 'scores.csv'}"])
