"""What else a run scored, each table apart: official test sets and the fold that was left out."""

from collections.abc import Mapping
from typing import Any

from mammotrain.report import tables as figures

Json = Mapping[str, Any]


def tables(report: Json) -> list[dict[str, Any]]:
    """Return the tables beside the headline, each with every metric of its images."""
    return [
        {
            "name": name,
            "n": found["n"],
            "groups": found["groups"],
            "rows": [(figures.title(m), figures.figure(e)) for m, e in found["metrics"].items()],
            "alarms": figures.alarms(found),
        }
        for name, found in report.get("tables", {}).items()
    ]


def lines(report: Json) -> list[str]:
    """Return a line a table for the terminal."""
    found = []
    for name, each in report.get("tables", {}).items():
        main = figures.main_metric(each)
        cell = figures.figure(each["metrics"][main])
        ends = f" ({cell['ends']})" if cell["ends"] else ""
        found.append(
            f"Apart, {name}: {each['n']:,} samples of {each['groups']:,} groups, "
            f"{main} {cell['value']}{ends}"
        )
    return found
