"""What a file that is neither DICOM nor a picture that is read is, in words: by its first bytes.

Only enumerated words leave here, nothing of the file's own text, which could name a person.
"""

READ = "read are DICOM, PNG, JPEG, TIFF, JPEG 2000, PGM, PPM and BMP"
SAVE = "save it as PNG or TIFF"
_LOOKED_AT = 512
_AGAIN = "download it again"
_LOST = f"{_AGAIN}: it is what a failed download leaves"

# (offset, mark, what it is, what to do)
_MARKS = (
    (0, b"version https://git-lfs.github.com/", "a Git LFS pointer", "git lfs pull fetches it"),
    (0, b"GIF8", "GIF", SAVE),
    (8, b"WEBP", "WebP", SAVE),
    (0, b"\x93NUMPY", "a NumPy array", SAVE),
    (0, b"\x1f\x8b", "gzip", "unpack it"),
    (0, b"BZh", "bzip2", "unpack it"),
    (0, b"\xfd7zXZ\0", "xz", "unpack it"),
    (0, b"\x28\xb5\x2f\xfd", "zstd", "unpack it"),
    (0, b"7z\xbc\xaf", "7z", "unpack it"),
    (0, b"Rar!", "RAR", "unpack it"),
    (257, b"ustar", "a tar archive", "unpack it"),
    (344, b"n+1\0", "NIfTI", SAVE),
    (344, b"ni1\0", "NIfTI", SAVE),
    (4, b"n+2\0", "NIfTI", SAVE),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5 or MATLAB 7.3", SAVE),
    (0, b"MATLAB 5.0", "MATLAB", SAVE),
    (0, b"NRRD0", "NRRD", SAVE),
    (0, b"ObjectType", "MetaImage", SAVE),
    (0, b"%PDF", "PDF", "export its pictures"),
    (0, b"8BPS", "Photoshop", SAVE),
    (4, b"ftypavif", "AVIF", SAVE),
    (4, b"ftypheic", "HEIC", SAVE),
    (0, b"\xff\x0a", "JPEG XL", SAVE),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL", SAVE),
    (0, b"\x76\x2f\x31\x01", "OpenEXR", SAVE),
    (0, b"PAR1", "Parquet", "it holds a table"),
    (0, b"P1\n", "PBM", SAVE),
    (0, b"P4\n", "PBM", SAVE),
    (0, b"P7\n", "PAM", SAVE),
)
_NPY, _ZIP = b".npy", b"PK\x03\x04"
_HTML = (b"<!doctype html", b"<html", b"<head", b"<body")
UNKNOWN = "neither DICOM (no DICM after 128 bytes) nor a picture that is known"


def told(data: bytes) -> tuple[str, str]:
    """Return (what a file is, what to do about it), both from fixed lists.

    Args:
        data: The whole file, or its beginning.
    """
    if not data:
        return "an empty file (0 bytes)", _LOST
    for at, mark, name, remedy in _MARKS:
        if data[at : at + len(mark)] == mark:
            return name, remedy
    if data.startswith(_ZIP):
        return _zip(data)
    return _text(data[:_LOOKED_AT])


def describe(data: bytes) -> str:
    """Return the detail of a failure: what a file is, what to do, and what is read."""
    name, remedy = told(data)
    return f"{name}: {remedy}; {READ}" if remedy else f"{name}; {READ}"


def _zip(data: bytes) -> tuple[str, str]:
    length = int.from_bytes(data[26:28], "little")
    if data[30 : 30 + length].endswith(_NPY):
        return "NumPy arrays (npz)", SAVE
    return "a zip archive", "unpack it"


def _text(start: bytes) -> tuple[str, str]:
    words = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if words.lower().startswith(_HTML):
        return "an HTML page", _LOST
    if words.startswith(b"<?xml"):
        return "XML", ""
    if not start.strip(b"\0"):
        return "a file that begins with nothing but zeros", _AGAIN
    if all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in start):
        return "a text file", ""
    return UNKNOWN, ""
