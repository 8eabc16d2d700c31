"""Who has which role: a row a dataset, a column a role, and what is left out with its reason."""

from collections.abc import Mapping
from typing import Any

from mammotrain import planned

Json = Mapping[str, Any]


def table(report: Json) -> dict[str, Any] | None:
    """Return the table of a report; None of one that was written before there was any."""
    told = report.get("roles")
    if not told:
        return None
    datasets = told["datasets"]
    names = planned.names_of(told)
    rows = [
        {
            "name": name,
            "cells": [each.get(role) for role in names],
            "left_out": [(why, count) for why, count in each["left_out"].items()],
        }
        for name, each in datasets.items()
    ]
    return {"names": names, "rows": rows, "warnings": planned.warnings(told)}
