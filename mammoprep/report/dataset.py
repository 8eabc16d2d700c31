"""The dataset report: one self-contained HTML document about what a build made and did not make.

The document asks for nothing outside itself, holds no script (its filters are CSS), and is the same
for the same input: no time, host, path or random order goes into it. Every text is escaped by the
template engine, whatever its source.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from mammoprep.core.text import visible
from mammoprep.report import sheet, tables
from mammoprep.report.choose import (
    Suspect,
    choose_contact,
    choose_suspicious,
    choose_warned,
    in_order,
)
from mammoprep.report.pictures import Thumbnail, thumbnail
from mammoprep.report.values import (
    Row,
    label_of,
    machine_of,
    mapping,
    sequence,
    text,
    warnings_of,
)

__all__ = ["choose_contact", "choose_suspicious", "render"]

CONTACT_LIMIT = 72
WARNED_LIMIT = 24
SUSPICIOUS_LIMIT = 24

Picture = Callable[[Row], NDArray[np.uint8]]


def render(
    summary: Mapping[str, Any],
    samples: Sequence[Mapping[str, Any]],
    failures: Sequence[Mapping[str, str]],
    thumbnail: Callable[[Mapping[str, Any]], NDArray[np.uint8]],
) -> str:
    """Return the report of a dataset as one HTML document.

    Args:
        summary: Content of ``dataset.json``, and under ``card`` the dataset's card: ``title``,
            ``licence``, ``licence_url``, ``home_page``, ``truth``, ``citation``, ``notes``,
            ``leaks``, ``leaks_found``. What is absent is not shown.
        samples: Rows of ``samples.parquet``, flat, keys with dots. The order does not matter.
        failures: Lines of ``failures.jsonl``: ``input``, ``code``, ``detail``.
        thumbnail: Gives the finished picture of a row, uint8, (rows, columns) grey or
            (rows, columns, 3) red, green, blue, any size. Called only for the rows that are shown,
            at most 120.
    """
    contact = choose_contact(samples, CONTACT_LIMIT)
    contact = in_order([*contact, *choose_warned(samples, contact, WARNED_LIMIT)])
    filters = sheet.filters(contact)
    context = {
        "title": text(mapping(summary.get("card")).get("title") or summary.get("title"))
        or text(summary.get("source"))
        or "Dataset",
        "head": tables.headline(summary, samples),
        "card": tables.card(summary),
        "settings": tables.settings(summary),
        "frame": tables.frame(summary),
        "splits": tables.splits(summary, samples),
        "failures": tables.failure_codes(summary, failures),
        "warnings": tables.warning_codes(samples),
        "machines": tables.machines(samples),
        "machine_count": len({machine_of(row) for row in samples}),
        "shortcuts": tables.shortcuts(summary),
        "filters": filters.lists,
        "contact": [
            {**_tile(row, thumbnail), "marks": marks}
            for row, marks in zip(contact, filters.marks, strict=True)
        ],
        "suspicious": [
            _suspect(suspect, thumbnail) for suspect in choose_suspicious(samples, SUSPICIOUS_LIMIT)
        ],
        "provenance": tables.provenance(summary),
    }
    return _environment().get_template("dataset.html.j2").render(context)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("mammoprep", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_cell,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(thousands=_thousands, percent=_percent)
    return environment


def _cell(value: Any) -> Any:
    # Markup is a subclass of str: what is already safe passes unchanged.
    return visible(value) if type(value) is str else value


def _thousands(count: int) -> str:
    return f"{count:,}"


def _percent(part: float) -> str:
    if 0 < part < 0.001:
        return "< 0.1 %"
    if 0.999 < part < 1:
        return "> 99.9 %"
    return f"{100 * part:.1f} %"


def _tile(row: Row, picture: Picture) -> dict[str, Any]:
    place = " ".join(filter(None, (text(row.get("laterality")), text(row.get("view")))))
    facts = [place, label_of(row), text(row.get("split"))]
    key = text(row.get("key"))
    large = picture(row)
    small: Thumbnail = thumbnail(large)
    return {
        "key": key,
        "picture": small,
        "outlines": sheet.outlines(row, large.shape[:2], (small.height, small.width)),
        "marks": "",
        "alt": ", ".join(filter(None, [key, *facts])),
        "facts": [fact for fact in [*facts, machine_of(row)] if fact],
        "warnings": warnings_of(row),
        "reasons": (),
        "file": [],
    }


def _suspect(suspect: Suspect, picture: Picture) -> dict[str, Any]:
    row = suspect.row
    named = [
        ("stored", _joined(sequence(row.get("geometry.stored_size"))[::-1], "x")),
        ("crop", _joined(row.get("geometry.crop"), " ")),
        ("photometric", text(row.get("acquisition.photometric"))),
        ("voi", text(row.get("acquisition.voi"))),
        ("transfer syntax", text(row.get("acquisition.transfer_syntax"))),
        ("density", text(row.get("labels.density"))),
    ]
    return {
        **_tile(row, picture),
        "reasons": suspect.reasons,
        "file": [(name, value) for name, value in named if value],
    }


def _joined(value: Any, mark: str) -> str:
    return mark.join(text(part) for part in sequence(value))
