"""Made-up scores that several tests share."""

import numpy as np

from mammotrain.scores import Scores


def make(
    n: int = 400,
    groups: int = 90,
    prevalence: float = 0.3,
    classes: int = 2,
    seed: int = 0,
    grid: int = 0,
) -> Scores:
    """Scores with an effect of label and patient; ``grid`` > 0 rounds them so that many tie."""
    rng = np.random.default_rng(seed)
    group = np.sort(rng.integers(groups, size=n))
    shares = [1 - prevalence, *[prevalence / (classes - 1)] * (classes - 1)]
    label = rng.choice(classes, size=n, p=shares).astype(np.int64)
    logits = rng.normal(size=(n, classes)) + 0.7 * rng.normal(size=(groups, classes))[group]
    logits[np.arange(n), label] += 1.2
    values = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    if grid:
        values = np.round(values * grid) / grid
    return Scores(
        np.array([f"demo_{place:05d}" for place in range(n)]),
        np.array([f"p{each}" for each in group]),
        rng.choice(["L", "R"], n),
        rng.choice(["CC", "MLO"], n),
        label,
        values,
        tuple(["negative", "cancer"] if classes == 2 else "abcdefgh"[:classes]),
    )


def small(label: list[int], positive: list[float], **changes: list[str]) -> Scores:
    """A table of two classes, one group a sample unless ``changes`` says otherwise."""
    n = len(label)
    told = {
        "key": [f"k{place}" for place in range(n)],
        "group": [f"g{place}" for place in range(n)],
        "laterality": ["L"] * n,
        "view": ["CC"] * n,
    } | changes
    score = np.array(positive, np.float64)
    return Scores(
        **{name: np.array(column, np.str_) for name, column in told.items()},
        label=np.array(label, np.int64),
        values=np.stack([1 - score, score], axis=1),
        names=("negative", "cancer"),
    )
