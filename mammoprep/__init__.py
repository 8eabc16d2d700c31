"""mammoprep: mammograms from DICOM to verified WebDataset shards.

The public functions, imported on first use so that listing plug-ins loads nothing heavy:

* ``prepare(path, size=(728, 1456))`` - one DICOM file as a build would make it
* ``build(source="rsna", size="728x1456", ...)`` - a whole dataset
* ``prepare_files(path, settings)`` - a file, folder or zip of DICOM as a build with these settings
  would make it, in memory
* ``write_shards(data, out, masks, made_by=...)`` - a dataset with other masks
* ``same_pictures(read, groups)`` - which of many pictures are one, by pixels and by looks
* ``phantom(layout, out, patients=20, seed=0)`` - synthetic mammograms in a dataset's own layout
"""

from typing import Any

__version__ = "0.1.0"
__all__ = [
    "__version__", "build", "phantom", "prepare", "prepare_files", "same_pictures", "write_shards",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a public function on first use."""
    if name == "prepare":
        from mammoprep.preparation import prepare

        return prepare
    if name == "build":
        from mammoprep.api import build

        return build
    if name == "prepare_files":
        from mammoprep.prepared import prepare_files

        return prepare_files
    if name == "write_shards":
        from mammoprep.masked import write_shards

        return write_shards
    if name == "same_pictures":
        from mammoprep.same import same_pictures

        return same_pictures
    if name == "phantom":
        from mammoprep.synthesis import phantom

        return phantom
    raise AttributeError(f"module 'mammoprep' has no attribute {name!r}")
