"""Synthetic mammograms by layout name: what the command line and the public API call."""

from pathlib import Path

from mammoprep.core import plugins

LAYOUTS = "mammoprep.phantoms"


def phantom(
    layout: str,
    out: str | Path,
    *,
    patients: int,
    seed: int = 0,
    size_scale: float = 1.0,
    **further: float,
) -> None:
    """Write synthetic mammograms to ``out`` in the layout of dataset ``layout``.

    Args:
        layout: Name of a dataset, such as ``rsna``.
        out: New or empty folder.
        patients: How many.
        seed: Same seed, same bytes.
        size_scale: Share of the real rows and columns, above 0 and at most 1.
        **further: What the layout takes besides, such as ``prevalence`` and ``workers``.

    Raises:
        ConfigError: unknown layout, an argument out of range, or ``out`` holds something.
    """
    write = plugins.load(LAYOUTS, layout, needs=("write",)).write
    write(Path(out), patients=patients, seed=seed, size_scale=size_scale, **further)
