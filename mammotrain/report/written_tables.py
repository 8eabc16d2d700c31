"""Tables as files for papers and programs: Markdown, LaTeX (booktabs) and CSV.

CSV has every number in full precision. Its texts are safe for spreadsheets: one that a spreadsheet
would take for a formula gets an apostrophe in front, which it shows as text.
"""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from mammoprep.core.errors import ConfigError
from mammoprep.core.text import visible
from mammotrain import comparison
from mammotrain.report import page, tables

Json = Mapping[str, Any]

FORMULA = ("=", "+", "-", "@", "\t", "\r")
COMPARISON, TRAININGS, REPORT = "comparison", "trainings", "report"
HEADER = (
    "run", "kind", "level", "metric", "n", "groups", "value", "ci95_low", "ci95_high",
    "reference", "difference", "difference_ci95_low", "difference_ci95_high", "p", "reason",
)  # fmt: skip
OF_TRAININGS = (
    "recipe", "trainings", "level", "metric", "mean", "sd", "lowest", "highest", "difference",
    "difference_ci95_low", "difference_ci95_high",
)  # fmt: skip
OF_RUN = ("part", "level", "metric", "n", "groups", "value", "ci95_low", "ci95_high", "reason")
WHOLE = "all"
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "_": r"\_", "%": r"\%", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''",
    "[": "{[}",  # at the beginning of a row it would be an option of the line break before
}  # fmt: skip
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_MARKDOWN = re.compile(r"([\\`*_\[\]#|~$])")
_MINUS = re.compile(r"(?<!\w)-(?=\d)")  # of a number, not between words


@dataclass(frozen=True)
class Grid:
    """A table for people.

    Attributes:
        title: What it shows.
        header: Its columns.
        blocks: Rows that belong together, as texts; between two blocks is a line.
    """

    title: str
    header: Sequence[str]
    blocks: Sequence[Sequence[Sequence[str]]]


def check_out(out: Path) -> None:
    """Check before any work that a comparison can be written there; raises ConfigError."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is a file. Give a folder, new or not.")
    names = [f"{COMPARISON}.{kind}" for kind in ("md", "tex", "html", "csv")]
    for path in (out / name for name in (*names, f"{TRAININGS}.csv")):
        if path.exists():
            raise ConfigError(f"{path} exists. Give another --out, or remove it.")


def write_comparison(
    out: Path, found: Json, title: str, notes: Mapping[str, str] | None = None
) -> None:
    """Write comparison.md, .tex, .csv and .html; trainings.csv where recipes were trained often.

    Args:
        out: An existing folder.
        found: What ``comparison.compare`` returns.
        title: What is compared.
        notes: Name of a run's folder -> what is said of it.
    """
    grids = list(_compared(found))
    below = [*comparison.told(found), *(f"{k}: {v}" for k, v in (notes or {}).items() if v)]
    page.write(out / f"{COMPARISON}.md", markdown(title, grids, below))
    page.write(out / f"{COMPARISON}.tex", latex(grids, below))
    page.write(out / f"{COMPARISON}.csv", as_csv(HEADER, _comparison_rows(found)))
    page.write(out / f"{COMPARISON}.html", comparison.page(found, title, notes))
    if found.get("recipes"):
        page.write(out / f"{TRAININGS}.csv", as_csv(OF_TRAININGS, _training_rows(found)))


def write_run(out: Path, report: Json) -> None:
    """Write report.md, .tex and .csv: every metric at every level, with its interval, by folds too.

    Args:
        out: An existing folder.
        report: The content of report.json. ``folds``, where there is it: name -> ``metrics``, name
            -> an estimate or a number.
    """
    grids = list(_reported(report))
    below = [f"{name}: {text}" for name, text in tables.facts(report)]
    below = [*tables.alarms(report), *below]
    title = f"{report['recipe']} on {report['data']} ({report['split']})"
    page.write(out / f"{REPORT}.md", markdown(title, grids, below))
    page.write(out / f"{REPORT}.tex", latex(grids, below))
    page.write(out / f"{REPORT}.csv", as_csv(OF_RUN, _run_rows(report)))


def markdown(title: str, grids: Sequence[Grid], below: Sequence[str] = ()) -> str:
    """Return a document with tables; every text is escaped."""
    parts = [f"# {plain_md(title)}"]
    for grid in grids:
        rows = [grid.header, ["---"] * len(grid.header)]
        lines = ["| " + " | ".join(plain_md(cell) for cell in rows[0]) + " |"]
        lines += ["| " + " | ".join(rows[1]) + " |"]
        for row in (row for block in grid.blocks for row in block):
            lines.append("| " + " | ".join(plain_md(cell) for cell in row) + " |")
        parts += [f"## {plain_md(grid.title)}", "\n".join(lines)]
    parts += ["\n".join(f"- {plain_md(line)}" for line in below)] if below else []
    return "\n\n".join(parts) + "\n"


def latex(grids: Sequence[Grid], below: Sequence[str] = ()) -> str:
    """Return tables to be put into a document that loads booktabs and longtable."""
    parts = [r"% \usepackage{booktabs,longtable}"]
    for grid in grids:
        head = " & ".join(plain_tex(cell) for cell in grid.header) + r" \\"
        columns = "ll" + "r" * (len(grid.header) - 2)
        parts += [r"\begingroup\footnotesize\setlength{\tabcolsep}{3pt}"]
        parts += [rf"\begin{{longtable}}{{{columns}}}"]
        parts += [rf"\caption{{{plain_tex(grid.title)}}} \\", r"\toprule", head, r"\midrule"]
        parts += [r"\endhead"]
        for place, block in enumerate(grid.blocks):
            parts += [r"\midrule"] if place else []
            parts += [" & ".join(plain_tex(cell) for cell in row) + r" \\" for row in block]
        parts += [r"\bottomrule", r"\end{longtable}", r"\endgroup"]
    parts += [f"\\noindent {plain_tex(line)}\n" for line in below]
    return "\n".join(parts) + "\n"


def as_csv(header: Sequence[str], rows: Iterator[Sequence[Any]]) -> str:
    """Return a table for programs: numbers as Python writes them, None as an empty cell."""
    file = StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_csv_cell(cell) for cell in row] for row in rows)
    return file.getvalue()


def _csv_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(float(value))  # one of NumPy's would tell its type
    if isinstance(value, int):
        return str(value)
    text = visible(str(value))
    return f"'{text}" if text.startswith(FORMULA) else text


def plain_md(text: str) -> str:
    """Return a text as Markdown and HTML show it, on one line."""
    shown = "".join(_HTML.get(mark, mark) for mark in visible(text))
    return _MARKDOWN.sub(r"\\\1", shown)


def plain_tex(text: str) -> str:
    """Return a text as LaTeX shows it, on one line."""
    shown = "".join(_LATEX.get(mark, mark) for mark in visible(text))
    return _MINUS.sub("$-$", shown).replace("--", "-{}-")  # two in a row would become a dash


# What was compared ------------------------------------------------------------------------------


def short_names(places: Sequence[str]) -> dict[str, str]:
    """Return what each folder is called: by its own name, or all of it where two share one."""
    short = {place: Path(place).name for place in places}
    names = list(short.values())
    return {place: name if names.count(name) == 1 else place for place, name in short.items()}


def _sides(found: Json) -> Iterator[tuple[str, str, Json]]:
    """Yield name, kind and the levels of each run, and of each baseline."""
    for run in found["runs"]:
        images = {key: found[key] for key in ("n", "groups")}
        images |= {"metrics": run["metrics"], "gains": run["gains"]}
        yield str(run["run"]), "run", {"image": images, **run.get("levels", {})}
    for kind, metrics in found["baselines"].items():
        gains = found.get("baseline_gains", {}).get(kind)
        images = {"n": found["n"], "groups": found["groups"], "metrics": metrics, "gains": gains}
        yield kind, "baseline", {"image": images}


def _comparison_rows(found: Json) -> Iterator[Sequence[Any]]:
    for name, kind, levels in _sides(found):
        for level, table in levels.items():
            for metric, each in table["metrics"].items():
                gain = (table["gains"] or {}).get(metric)
                yield (
                    name, kind, level, metric, table["n"], table["groups"], each["value"],
                    *_ends(each), *_difference(gain, found["reference"]), each.get("reason", ""),
                )  # fmt: skip


def _ends(estimate: Json) -> Sequence[Any]:
    return estimate.get("ci95") or (None, None)


def _difference(gain: Json | None, reference: str) -> Sequence[Any]:
    if gain is None:
        return (None,) * 5
    return reference, gain["difference"], *_ends(gain), gain.get("p")


def _compared(found: Json) -> Iterator[Grid]:
    """Yield a table a level, and that of trainings."""
    names = short_names([str(run["run"]) for run in found["runs"]])
    sides = list(_sides(found))
    reference = names[found["reference"]]
    header = ("Metric", "Run", "Value (95 % interval)", f"Above {reference} (95 % interval)", "p")
    for level in sides[0][2]:
        there = [(name, of[level]) for name, _, of in sides if level in of]
        metrics = list(dict.fromkeys(name for _, table in there for name in table["metrics"]))
        blocks = [
            [
                [tables.title(metric), names.get(name, tables.BASELINES.get(name, name)),
                 *_cells(table, metric)]
                for name, table in there
                if metric in table["metrics"]
            ]
            for metric in metrics
        ]  # fmt: skip
        n, groups = there[0][1]["n"], there[0][1]["groups"]
        title = f"By {level}: {n:,} samples of {groups:,} groups"
        yield Grid(title, header, blocks)
    yield from _trained(found)


def _cells(table: Json, metric: str) -> list[str]:
    gain = (table["gains"] or {}).get(metric)
    if gain is None:
        return [shown(table["metrics"][metric]), "", ""]
    p = gain.get("p")
    return [shown(table["metrics"][metric]), _gap(gain), "" if p is None else f"{p:.3f}"]


def shown(estimate: Json) -> str:
    """Return a value and its interval for people."""
    return _figure(estimate["value"], estimate.get("ci95"), ".3f")


def _gap(gain: Json) -> str:
    return _figure(gain["difference"], gain.get("ci95"), "+.3f")


def _figure(value: float | None, ends: Sequence[float] | None, how: str) -> str:
    if value is None:
        return "-"
    within = f" ({ends[0]:{how}} to {ends[1]:{how}})" if ends else ""
    return f"{value:{how}}{within}"


def _trained(found: Json) -> Iterator[Grid]:
    """Yield the table of recipes that were trained often enough, a level each."""
    header = (
        "Metric", "Recipe", "Mean", "Standard deviation", "Range", "Above the first (95 % interval)"
    )  # fmt: skip
    for level in _levels_of_trainings(found):
        blocks: dict[str, list[list[str]]] = {}
        for recipe, _, metric, each, gap in comparison.seeds(found, level):
            span = f"{each['lowest']:.3f} to {each['highest']:.3f}"
            cells = [f"{each['mean']:.3f}", f"{each['sd']:.3f}", span, _gap(gap) if gap else ""]
            blocks.setdefault(metric, []).append([tables.title(metric), recipe, *cells])
        title = f"By {level}, over trainings, on the same patients: intervals of training again"
        yield Grid(title, header, list(blocks.values()))


def _levels_of_trainings(found: Json) -> list[str]:
    return list(found["recipes"][0]["levels"]) if found.get("recipes") else []


def _training_rows(found: Json) -> Iterator[Sequence[Any]]:
    for level in _levels_of_trainings(found):
        for recipe, number, metric, each, gap in comparison.seeds(found, level):
            spread = (each[name] for name in ("mean", "sd", "lowest", "highest"))
            gaps = (None,) * 3 if gap is None else (gap["difference"], *_ends(gap))
            yield recipe, number, level, metric, *spread, *gaps


# One report -------------------------------------------------------------------------------------


def _run_levels(report: Json) -> dict[str, Json]:
    """Return level -> counts and metrics; measures are of images."""
    images = {**report["metrics"], **report.get("measures", {})}
    found: dict[str, Json] = {
        "image": {"n": report["n"], "groups": report["groups"], "metrics": images}
    }
    for level, table in report["levels"].items():
        if isinstance(table, Mapping) and table.get("n"):
            found[level] = table
    return found


def _folds(report: Json) -> dict[str, Json]:
    """Return fold -> its counts and metrics, where a report has such."""
    found = report.get("folds") or report.get("slices", {}).get("fold") or {}
    return {
        str(name): {**table, "metrics": {n: _estimate(e) for n, e in table["metrics"].items()}}
        for name, table in found.items()
        if isinstance(table, Mapping) and isinstance(table.get("metrics"), Mapping)
    }


def _estimate(value: Any) -> Json:
    return value if isinstance(value, Mapping) else {"value": value, "ci95": None}


def _run_rows(report: Json) -> Iterator[Sequence[Any]]:
    parts: list[tuple[str, str, Json]] = [
        (WHOLE, level, table) for level, table in _run_levels(report).items()
    ]
    parts += [(fold, "image", table) for fold, table in _folds(report).items()]
    counted = {"n": report["n"], "groups": report["groups"]}
    parts += [
        (f"baseline {kind}", "image", {**counted, "metrics": other["metrics"]})
        for kind, other in report.get("baselines", {}).items()
        if other["metrics"]
    ]
    for part, level, table in parts:
        for metric, each in table["metrics"].items():
            counts = table.get("n"), table.get("groups")
            reason = each.get("reason", "")
            yield part, level, metric, *counts, each["value"], *_ends(each), reason


def _reported(report: Json) -> Iterator[Grid]:
    """Yield metrics by levels, then by folds, then beside the baselines."""
    levels = {name.capitalize(): table for name, table in _run_levels(report).items()}
    yield _grid("Scores", levels)
    if folds := _folds(report):
        yield _grid("By folds", folds)
    others = {
        tables.BASELINES.get(name, name): other
        for name, other in report.get("baselines", {}).items()
        if other["metrics"]
    }
    if others:
        yield _grid("Baselines", others)


def _grid(title: str, parts: Mapping[str, Json]) -> Grid:
    names = dict.fromkeys(name for table in parts.values() for name in table["metrics"])
    rows = [
        [
            tables.title(name),
            *(shown(t["metrics"][name]) if name in t["metrics"] else "" for t in parts.values()),
        ]
        for name in names
    ]
    return Grid(title, ("Metric", *parts), [rows])
