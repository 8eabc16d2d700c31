"""The numbers of the report, one function a section; plain values in, plain values out."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from heapq import nsmallest
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np

from mammoprep.core.codes import EXCLUDED, explain
from mammoprep.core.schema import base_split
from mammoprep.report.pictures import Box, box_plot
from mammoprep.report.values import (
    Row,
    compact,
    flowing,
    intensity_of,
    label_of,
    machine_of,
    mapping,
    natural,
    number,
    paragraphs,
    sequence,
    text,
    warnings_of,
)

SIZES = ("size", "roi")  # (width, height)
LABEL_COLUMNS = 8
SPLIT_ROWS = 48
CODE_ROWS = 60
INPUTS_SHOWN = 20
MACHINE_ROWS = 32
SHARD_ROWS = 400
OTHER = "other labels"


class Share(NamedTuple):
    """A number of things and what part of the whole it is (0-1)."""

    number: int
    part: float


class CodeRow(NamedTuple):
    """One code: how often, what it means, what to do, and the first inputs as (input, detail).

    ``kind`` is ``failed``, ``excluded`` or, for warnings, empty; ``classes`` is, for warnings, how
    often by label.
    """

    kind: str
    code: str
    share: Share
    meaning: str
    action: str
    inputs: list[tuple[str, str]]
    classes: str = ""


def _share(count: int, whole: float) -> Share:
    return Share(count, count / whole if whole else 0.0)


def _total(value: Any) -> int | None:
    """Sum of a mapping of counts, a count as it is, None when there is neither."""
    if isinstance(value, Mapping):
        return int(sum(number(count) or 0 for count in value.values()))
    plain = number(value)
    return None if plain is None else int(plain)


def headline(summary: Row, samples: Sequence[Row]) -> dict[str, Any]:
    """Return the big numbers and what is wrong with them.

    The keys are ``inputs``, ``built``, ``failed``, ``excluded`` (None when the build did not say),
    ``samples``, ``groups``, ``shards``, and two lists of sentences: ``alarms``, what must not be,
    and ``notices``, what the user may want to build otherwise.
    """
    counts = mapping(summary.get("counts"))
    names = ("inputs", "built", "failed", "excluded")
    numbers: dict[str, Any] = {name: _total(counts.get(name)) for name in names}
    numbers["known"] = None not in numbers.values()
    numbers["samples"] = len(samples)
    numbers["groups"] = len({text(row.get("group")) for row in samples})
    numbers["shards"] = len(summary.get("shards") or ())
    numbers["alarms"] = _alarms(numbers, _total(counts.get("samples")), samples)
    numbers["notices"] = [text(line) for line in sequence(summary.get("notices"))]
    return numbers


def _alarms(numbers: Row, declared: int | None, samples: Sequence[Row]) -> list[str]:
    alarms = []
    parts = [numbers[name] for name in ("built", "failed", "excluded")]
    if numbers["known"] and numbers["inputs"] != sum(parts):
        alarms.append("Inputs do not equal built + failed + excluded: inputs were lost.")
    if declared is not None and declared != len(samples):
        alarms.append(f"The manifest counts {declared:,} samples, the table has {len(samples):,}.")
    sides: dict[str, set[str]] = defaultdict(set)
    for row in samples:
        sides[text(row.get("group"))].add(base_split(text(row.get("split"))))
    if leaking := sum(len(splits) > 1 for group, splits in sides.items() if group):
        alarms.append(f"Groups that appear in more than one split: {leaking:,}. The splits leak.")
    return alarms


def card(summary: Row) -> dict[str, Any]:
    """Return the dataset card: ``facts`` (name, text), ``link``, ``notes``, ``leaks``, ``found``.

    ``link`` is the home page when it is a plain https address, else empty; the address is shown as
    text in both cases.
    """
    given = mapping(summary.get("card"))
    facts = [
        ("Dataset", text(given.get("title") or summary.get("title"))),
        ("Source", text(summary.get("source"))),
        ("Licence", text(given.get("licence") or summary.get("licence"))),
        ("Licence text", text(given.get("licence_url"))),
        ("Home page", text(given.get("home_page"))),
        ("Truth", text(given.get("truth"))),
        ("Citation", text(given.get("citation"))),
    ]
    return {
        "facts": [(name, flowing(value)) for name, value in facts if value],
        "link": _https(text(given.get("home_page"))),
        "notes": paragraphs(given.get("notes")),
        "leaks": paragraphs(given.get("leaks")),
        "found": paragraphs(given.get("leaks_found")),
    }


def _https(address: str) -> str:
    """The address when it is https, printable ASCII and names a host and no user; else nothing."""
    plain = address.isascii() and address.isprintable() and len(address) <= 500
    if not address.startswith("https://") or not plain:
        return ""
    try:
        parts = urlsplit(address)
    except ValueError:
        return ""
    odd = set(" \"'<>\\^`{|}") & set(address)
    return address if parts.hostname and "@" not in parts.netloc and not odd else ""


def settings(summary: Row) -> list[tuple[str, str]]:
    """Return the settings as (name, value), sorted by name."""
    given = mapping(summary.get("settings"))
    return sorted((name, _setting(name, value)) for name, value in given.items())


def _setting(name: str, value: Any) -> str:
    if value is None:
        return "not set"
    if name in SIZES and len(sequence(value)) == 2:
        return "x".join(text(side) for side in sequence(value))
    return compact(value)


def frame(summary: Row) -> str:
    """Return how full the samples' frames are, in words; empty when the manifest does not say."""
    shares = [number(share) for share in sequence(mapping(summary.get("frame")).get("filled"))]
    low, median, high = shares if len(shares) == 3 else (None, None, None)
    if low is None or median is None or high is None:
        return ""
    size = _setting("size", mapping(summary.get("settings")).get("size"))
    return (
        f"Pictures are {size} (width x height). In the middle one the file fills "
        f"{100 * median:.0f} % of the frame, and {100 - 100 * median:.0f} % is padding; in nine of "
        f"ten it fills {100 * low:.0f} to {100 * high:.0f} %."
    )


def splits(summary: Row, samples: Sequence[Row]) -> dict[str, Any]:
    """Return ``labels`` (the columns), ``rows`` (one a split) and ``all`` (every label's share).

    The columns are the labels in the manifest's order, then others by frequency; what does not fit
    into eight columns is counted together. Each row has ``split``, ``samples`` (Share of all),
    ``groups`` and ``labels`` (a Share for each column); the last row is the whole.
    """
    totals = Counter(label_of(row) for row in samples)
    known = [text(name) for name in summary.get("label_names") or ()]
    ranked = sorted(totals, key=lambda name: (-totals[name], name))
    columns, lumped = list(dict.fromkeys([*known, *ranked])), set[str]()
    if len(columns) > LABEL_COLUMNS:
        columns = ranked
    if len(columns) > LABEL_COLUMNS:
        columns = [*ranked[: LABEL_COLUMNS - 1], OTHER]
        lumped = set(ranked[LABEL_COLUMNS - 1 :])
    members: dict[str, list[Row]] = defaultdict(list)
    for row in samples:
        members[text(row.get("split"))].append(row)
    rows = [
        _split_row(split, members[split], len(samples), columns, lumped)
        for split in sorted(members, key=natural)[:SPLIT_ROWS]
    ]
    rows.append(_split_row("all", samples, len(samples), columns, lumped))
    everything = [(name, _share(totals[name], len(samples))) for name in ranked[:200]]
    return {
        "labels": columns,
        "rows": rows,
        "all": everything if lumped else [],
        "names": len(ranked),
        "hidden": max(0, len(members) - SPLIT_ROWS),
    }


def _split_row(
    split: str, rows: Sequence[Row], whole: int, columns: Iterable[str], lumped: set[str]
) -> dict[str, Any]:
    counted = Counter(OTHER if label_of(row) in lumped else label_of(row) for row in rows)
    return {
        "split": split,
        "samples": _share(len(rows), whole),
        "groups": len({text(row.get("group")) for row in rows}),
        "labels": [_share(counted[name], len(rows)) for name in columns],
    }


def shortcuts(summary: Row) -> list[tuple[bool, str]]:
    """Return whether each kind of shortcut gives the label away, and what it reaches in words."""
    found = [mapping(each) for each in sequence(summary.get("shortcuts"))]
    return [(each.get("leak") is True, text(each.get("says"))) for each in found]


def failure_codes(summary: Row, failures: Sequence[Mapping[str, str]]) -> list[CodeRow]:
    """Return what was not built, failed codes first, then excluded ones, the most frequent first.

    The counts are the manifest's, where it has them, else those of the lines; a share is one of all
    inputs.
    """
    counts = mapping(summary.get("counts"))
    counted = {
        "failed": Counter(_counts(counts.get("failed"))),
        "excluded": Counter(_counts(counts.get("excluded"))),
    }
    lines: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for failure in failures:
        code = text(failure.get("code"))
        entry = (text(failure.get("input")), text(failure.get("detail")))
        lines[_kind(code, counted), code].append(entry)
    inputs = _total(counts.get("inputs")) or len(failures)
    for (kind, code), entries in lines.items():
        counted[kind][code] = counted[kind][code] or len(entries)
    return [
        CodeRow(kind, code, _share(count, inputs), *explain(code), _first(lines[kind, code]))
        for kind in ("failed", "excluded")
        for code, count in _ranked(counted[kind])
    ]


def _kind(code: str, counted: Mapping[str, Counter[str]]) -> str:
    if code in counted["failed"]:
        return "failed"
    return "excluded" if code in counted["excluded"] or code in EXCLUDED else "failed"


def _counts(value: Any) -> dict[str, int]:
    return {text(code): int(number(count) or 0) for code, count in mapping(value).items()}


def _ranked(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:CODE_ROWS]


def _first(entries: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return nsmallest(INPUTS_SHOWN, entries)


def warning_codes(samples: Sequence[Row]) -> list[CodeRow]:
    """Return the warnings of the samples, the most frequent first; shares are of all samples."""
    counted = Counter(code for row in samples for code in warnings_of(row))
    labels: dict[str, Counter[str]] = defaultdict(Counter)
    for row in samples:
        for code in warnings_of(row):
            labels[code][label_of(row) or "no label"] += 1
    return [
        CodeRow("", code, _share(count, len(samples)), *explain(code), [], _by_label(labels[code]))
        for code, count in _ranked(counted)
    ]


def _by_label(counted: Counter[str]) -> str:
    """Return how often by label: a fault that befalls one class more than others is a shortcut."""
    most = sorted(counted.items(), key=lambda each: (-each[1], each[0]))[:LABEL_COLUMNS]
    return ", ".join(f"{name} {count:,}" for name, count in most)


class Machine(NamedTuple):
    """The brightness of one machine's samples.

    Attributes:
        name: The machine, or an empty text when unknown.
        share: How many of the samples it made.
        quantiles: Median over its samples of each stored quantile, 0-1; empty when none is stored.
        box: Where to draw them, or None.
    """

    name: str
    share: Share
    quantiles: list[float]
    box: Box | None


def machines(samples: Sequence[Row]) -> list[Machine]:
    """Return the 32 machines with the most samples, from the darkest to the brightest median."""
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in samples:
        rows[machine_of(row)].append(row)
    largest = sorted(rows, key=lambda name: (-len(rows[name]), natural(name)))[:MACHINE_ROWS]
    found = [_machine(name, rows[name], len(samples)) for name in largest]
    return sorted(found, key=lambda each: (each.quantiles[2:3] or [2.0], natural(each.name)))


def _machine(name: str, rows: Sequence[Row], whole: int) -> Machine:
    known = [quantiles for row in rows if (quantiles := intensity_of(row)) is not None]
    share = _share(len(rows), whole)
    if not known:
        return Machine(name, share, [], None)
    middle = np.median(np.stack(known), axis=0)
    return Machine(name, share, [float(value) for value in middle], box_plot(middle))


def provenance(summary: Row) -> dict[str, Any]:
    """Return ``versions``, ``shards`` (rows of text), ``plan`` (its hash) and ``format``."""
    shards = list(summary.get("shards") or ())
    return {
        "versions": sorted(
            (name, text(value)) for name, value in mapping(summary.get("versions")).items()
        ),
        "plan": text(summary.get("plan_sha256")),
        "format": text(summary.get("format_version")),
        "shards": [_shard(mapping(shard)) for shard in shards[:SHARD_ROWS]],
        "total": len(shards),
    }


def _shard(shard: Row) -> dict[str, str]:
    size = number(shard.get("bytes"))
    return {
        **{name: text(shard.get(name)) for name in ("name", "split", "samples", "sha256")},
        "size": "" if size is None else f"{int(size):,}",
    }
