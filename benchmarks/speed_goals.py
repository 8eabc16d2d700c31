"""The tables of docs/benchmarks.md from the result of decode_speed.py, and what was aimed at."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

PEERS = {
    "notebook_dicomsdl": "(a) notebook, dicomsdl",
    "notebook_pydicom_pylibjpeg": "(b) notebook, pydicom",
    "medip": "(c) medip",
}
MODES = ("exact", "fast")
A = "notebook_dicomsdl_cpu"
SHARDS, SCALING, MEMORY, OUTSIDE = 24, 1.85, 5.0, 0.15

Result = Mapping[str, Any]
Goal = tuple[str, str, str, bool]


def markdown(result: Result) -> str:
    """Return all tables."""
    machine = result["machine"]
    load = machine["load_at_start"][0]
    head = (
        f"{result['date']}, {machine['cpu']}, {machine['cores']} cores, load {load} at the start."
    )
    parts = (
        head,
        times(result),
        against(result),
        aims(result),
        scaling(result),
        memory(result),
        encoders(result),
    )
    return "\n\n".join(parts)


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def times(result: Result) -> str:
    """Milliseconds an image of every way."""
    ways = ("exact", "fast", "notebook_dicomsdl", "notebook_pydicom_pylibjpeg")
    heads = ("ms of processor time an image", "exact", "fast", "(a)", "(b)", "decoder alone, whole")
    rows = (
        (
            row["group"],
            *(row["cpu_ms"].get(way, "-") for way in ways),
            row.get("whole_decode_ms", "-"),
        )
        for row in result["groups"]
    )
    return table(heads, rows)


def against(result: Result) -> str:
    """Ratio to each peer, and what is outside of the decoder."""
    heads = ("times as fast as", *PEERS.values(), "outside the decoder", "of a whole decode")
    rows = [
        (
            f"{row['group']}: {mode}",
            *(_ratio(row[mode].get(f"{peer}_cpu")) for peer in PEERS),
            f"{row[mode]['outside_decoder'][0]:.0%}",
            f"{row[mode]['to_whole_decode']:.2f}" if "to_whole_decode" in row[mode] else "-",
        )
        for row in result["groups"]
        for mode in MODES
        if mode in row
    ]
    note = f"Median [lowest, highest] over files and rounds. medip: {result['medip']}."
    return f"{table(heads, rows)}\n\n{note}"


def _ratio(values: Sequence[float] | None) -> str:
    return "-" if values is None else f"{values[0]:.2f} [{values[1]:.2f}, {values[2]:.2f}]"


def aims(result: Result) -> str:
    """What was aimed at and what came out."""
    if result["quick"]:
        return "A quick run: its pictures are small, and nothing is aimed at for those."
    rows = (
        (what, aim, found, "yes" if reached else "**no**")
        for what, aim, found, reached in goals(result)
    )
    return table(("aim", "at least, or below", "found", "reached"), rows)


def goals(result: Result) -> list[Goal]:
    """Return (what, aim, found, reached) for every aim that could be measured."""
    found: list[Goal] = []
    for row in (row for row in result["groups"] if "exact" in row and "fast" in row):
        found += _of_group(row)
        for mode in MODES:
            found += _at_least(f"{row['group']}: {mode} to (c)", 3.0, row[mode].get("medip_cpu"))
    found += _scaling_goal(result["scaling"])
    for name, row in result["memory"].items():
        for mode in MODES:
            share = row[mode]["above_idle_to_decoded"]
            what = f"{name}: {mode}, memory above idle to the decoded image"
            found.append((what, f"{MEMORY}", f"{share}", share < MEMORY))
    return found


def _of_group(row: Result) -> list[Goal]:
    name, reduced = row["group"], row["fast"]["read_as"] != ["exact"]
    if "JPEG Lossless" in name:
        return _at_least(f"{name}: exact to (a)", 2.0, row["exact"].get(A))
    if "JPEG 2000" not in name:
        return []
    if reduced:
        fast = _at_least(f"{name}: fast to (a)", 4.5, row["fast"].get(A))
        return fast + _at_least(f"{name}: exact to (a)", 1.25, row["exact"].get(A))
    outside = row["exact"]["outside_decoder"][0]
    share = (f"{name}: outside the decoder", f"{OUTSIDE:.0%}", f"{outside:.1%}", outside <= OUTSIDE)
    return [*_at_least(f"{name}: exact to (a)", 1.05, row["exact"].get(A)), share]


def _at_least(what: str, aim: float, values: Sequence[float] | None) -> list[Goal]:
    return [] if values is None else [(what, f"{aim}", f"{values[0]:.2f}", values[0] >= aim)]


def _scaling_goal(row: Result) -> list[Goal]:
    what = f"2 workers to 1, {row['images']} images in {row['shards']} shards"
    if row["cores"] < 2 or row["shards"] < SHARDS:
        return []
    return [(what, f"{SCALING}", f"{row['ratio']:.2f}", row["ratio"] >= SCALING)]


def scaling(result: Result) -> str:
    row = result["scaling"]
    heads = ("images", "shards", "1 worker, images/s", "2 workers, images/s", "ratio")
    names = ("images", "shards", "one_worker", "two_workers", "ratio")
    return table(heads, [tuple(row[name] for name in names)])


def memory(result: Result) -> str:
    heads = ("memory of a child, MB", "decoded image", "idle", "above idle, exact", "fast")
    rows = (
        (
            name,
            row["decoded_mb"],
            row["exact"]["idle_mb"],
            *(
                f"{row[mode]['above_idle_mb']} ({row[mode]['above_idle_to_decoded']} x)"
                for mode in MODES
            ),
        )
        for name, row in result["memory"].items()
    )
    return table(heads, rows)


def encoders(result: Result) -> str:
    rows = ((name, *row.values()) for name, row in result["png_encoders"].items())
    return table(("PNG encoder, finished pictures", "ms", "kB"), rows)
