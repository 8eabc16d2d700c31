"""mammoprep: mammograms from DICOM to verified WebDataset shards."""

__version__ = "0.1.0"
