"""Print what benchmarks/results holds of mammotrain's benchmarks, as docs/benchmarks.md shows it.

python benchmarks/figures.py
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    for cells in (head, ["---"] * len(head), *rows):
        yield "| " + " | ".join(str(cell) for cell in cells) + " |"
    yield ""


def loader(found: dict[str, Any]) -> Iterator[str]:
    both = [found["8 bits"], found["16 bits"]]
    yield "**loader_speed**, " + where(found)
    yield ""
    ratios = [
        (name, *(span(each["ratios"][name], "median") for each in both))
        for name in both[0]["ratios"]
    ]
    yield from table(
        ("samples a second, ratio in one round: median (lowest to highest)", "8 bits", "16 bits"),
        ratios,
    )


def augment(found: dict[str, Any]) -> Iterator[str]:
    yield "**augment_speed**, " + where(found)
    yield ""
    sizes = found["sizes"]
    head = ("ms a picture and its mask", *(f"{size['rows']} x {size['columns']}" for size in sizes))
    names = sizes[0]["ms_a_picture"]
    yield from table(head, [(n, *(size["ms_a_picture"].get(n) for size in sizes)) for n in names])


def solver(found: dict[str, Any]) -> Iterator[str]:
    yield "**deq_solver**, " + where(found)
    yield ""
    rows = []
    for case in found["cases"]:
        seconds, best = case["seconds_a_step"], case["best_of_torchdeq"]
        theirs = "none converged" if best is None else f"{seconds[best]} ({best.split(', ')[1]})"
        faster = case["ours_anderson_is_faster_by"] or "-"
        name = f"{case['pixels']} px, after {case['training_steps_before']} steps"
        rows.append((name, case["spectral_radius"], seconds["ours, anderson"], theirs, faster))
    head = (
        "weights", "spectral radius", "ours, anderson: s a step", "torchdeq's best",
        "times as fast (goal 1.4)",
    )  # fmt: skip
    yield from table(head, rows)


def steps(found: dict[str, Any]) -> Iterator[str]:
    yield "**step_rate**, " + where(found)
    yield ""
    rows = []
    for name, case in found["cases"].items():
        cpu = case["cpu"]
        goal = case.get("goal_rate")
        aim = f"rate {goal}" if goal else f"added {case['goal_added_ms']} ms"
        reached = "yes" if case["reached"] else "**no**"
        rate = span(cpu, "rate_ours_to_bare")
        rows.append((name, cpu["bare_ms_a_step"], cpu["added_ms_a_step"], rate, aim, reached))
    head = (
        "model",
        "bare loop: ms a step",
        "ours adds: ms",
        "rate, ours to bare (10 to 90 %)",
        "aim",
        "reached",
    )
    yield from table(head, rows)


def span(found: dict[str, Any], middle: str) -> str:
    return f"{found[middle]:.2f} ({found['low']:.2f} to {found['high']:.2f})"


def where(found: dict[str, Any]) -> str:
    machine = found["machine"]
    load = machine.get("load", machine.get("load_at_start", [None])) or "unknown"
    first = load[0] if isinstance(load, list) else load
    gpu = f", {machine['gpu']}" if machine.get("gpu") else ""
    versions = ", ".join(f"{name} {text}" for name, text in found["versions"].items() if text)
    return (
        f"{found['date']}, {machine['cpu']}, {machine['cores']} cores{gpu}, load {first} at the "
        f"start; {versions}:"
    )


SECTIONS = {
    "loader_speed": loader,
    "augment_speed": augment,
    "deq_solver": solver,
    "step_rate": steps,
}


def text() -> str:
    lines: list[str] = []
    for name, section in SECTIONS.items():
        path = RESULTS / f"{name}.json"
        lines += section(json.loads(path.read_text())) if path.is_file() else []
    return "\n".join(lines)


if __name__ == "__main__":
    print(text())
