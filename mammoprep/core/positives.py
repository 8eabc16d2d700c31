"""Whether a table's row says that there is a finding."""

from mammoprep.core.schema import MaskFile, Record

# Names of classes that people give; a name that is in neither says nothing.
FINDING = frozenset(
    ("abnormal", "benign", "cancer", "lesion", "malignant", "malignancy", "mass", "positive",
     "tumor", "tumour")
)  # fmt: skip
NO_FINDING = frozenset(("healthy", "negative", "no finding", "no_finding", "normal"))
_NAMED = ("label", "class", "pathology", "status")
_PROVEN = ("cancer", "malignant")


def names_finding(record: Record, file: MaskFile) -> bool | None:
    """Return whether the table says that a mask file shows a finding; None where it does not tell.

    Args:
        record: The image's record.
        file: One of its mask files.
    """
    if file.kind or file.pathology:
        return True
    if (abnormal := record.labels.get("abnormal")) is not None:
        return bool(abnormal)
    if any(record.labels.get(name) == 1 for name in _PROVEN):
        return True
    told = {str(record.labels.get(name)).strip().lower() for name in _NAMED}
    if told & FINDING:
        return True
    return False if told & NO_FINDING else None
