"""BMCD, 2021: one breast a case, in two rounds of two views, and an Excel sheet a kind of case.

Reads ``Description.xlsx``; see ``data_manifests/bmcd.toml``.
"""

import io
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

from python_calamine import CalamineError, CalamineWorkbook

from mammoprep.core.cards import Card
from mammoprep.core.cells import INFLATED_LIMIT, read_table
from mammoprep.core.errors import ConfigError
from mammoprep.core.schema import Record, Scalar, make_key
from mammoprep.core.tree import Tree
from mammoprep.sources import _birads
from mammoprep.sources._tables import Row, folder_of, one_of, value
from mammoprep.sources._tables import records as records_of

TABLE = "Description.xlsx"
SHEETS = {"normal": "Normal_cases", "suspicious": "Suspicious_cases"}
FOLDER, SIDE = "Folder #", "Breast (Right/Left)"
AGE = "Age (at the time of the recent mammogram)"
DENSITY = "BI-RADS categories for breast density"
CATEGORY = "BI-RADS categories for classification"
BIOPSY = "Biopsy results"
COLUMNS = (FOLDER, SIDE, AGE, DENSITY, CATEGORY)
TITLE_ROWS = 10  # the header is looked for in so many rows; it is in the third one
IMAGES = "Dataset/"
VIEWS, ROUNDS = ("CC", "MLO"), ("prior", "recent")

SIDES: Mapping[str, Scalar] = {"LEFT": "L", "RIGHT": "R"}
DENSITIES: Mapping[str, Scalar] = {name: name for name in _birads.DENSITIES}
BIOPSIES: Mapping[str, Scalar] = {n: n.lower() for n in ("BENIGN", "MALIGNANT", "DCIS")}
UNKNOWN = "not available"
# Suspicious cases of other sides that share age, density, category and biopsy: the only two of
# BI-RADS 5, and two of the six of 4c. They may be both breasts of one woman.
TWINS = {"49": "46", "50": "47"}

_NUMBER = re.compile(r"[1-9][0-9]{0,2}")
_FILE = re.compile(
    r"((?:.*/)?)(normal|suspicious)_cases/([1-9][0-9]{0,2})/(cc|mlo)_(prior|recent)\.dcm",
    re.IGNORECASE,
)

Rows = list[tuple[int, dict[str, str]]]


@dataclass(frozen=True)
class _Image:
    """Which image of which case.

    Attributes:
        case: ``normal`` or ``suspicious``.
        view: ``CC`` or ``MLO``.
        round: ``prior`` or ``recent``.
    """

    case: str
    view: str
    round: str

    def path(self, number: str) -> str:
        """Return the image's place below the folder of the images."""
        return f"{SHEETS[self.case]}/{number}/{self.view}_{self.round}.dcm"


@dataclass(frozen=True)
class _Files:
    """What lies on the disk.

    Attributes:
        folder: What comes before ``Normal_cases``: empty, or with a slash at its end.
        images: Place below it, in lower case -> path.
    """

    folder: str
    images: Mapping[str, str]

    def of(self, place: str) -> str:
        """Return the path of an image, also of one that is absent."""
        return self.images.get(place.lower(), f"{self.folder}{place}")


def locate(tree: Tree) -> str | None:
    """Return the folder that holds the table: ``""`` for the root, or None when there is none."""
    return folder_of(tree, TABLE)


def read(tree: Tree, card: Card) -> list[Record]:
    """Return four records a row: both views of the prior and of the recent round.

    The table speaks of the recent round. Of a prior image only that it was not suspicious is known.

    Raises:
        ConfigError: the table cannot be read, lacks a sheet or a column, names a case twice or
            holds a value that cannot be, with the sheet's rows; or a case's image is there twice.
    """
    files = _files(tree)
    found: list[Record] = []
    for case, rows in _tables(tree).items():
        table = f"{TABLE}, sheet {SHEETS[case]}"
        for image in (_Image(case, *shot) for shot in product(VIEWS, ROUNDS)):
            make = partial(_record, image=image, card=card, files=files)
            found += records_of(table, iter(rows), make) if rows else []
    if not found:
        raise ConfigError(f"{TABLE} has no case in any of its sheets.")
    return found


def _files(tree: Tree) -> _Files:
    paths = [path for top in tree.folders() for path in sorted(tree.sizes(top))]
    folder, images = IMAGES, dict[str, str]()
    for match in filter(None, map(_FILE.fullmatch, paths)):
        folder = folder if images else match[1]
        place = match[0].removeprefix(match[1])
        if images.setdefault(place.lower(), match[0]) != match[0]:
            raise ConfigError(f"There are two files of the image {place}. Remove one of them.")
    return _Files(folder, images)


def _tables(tree: Tree) -> dict[str, Rows]:
    """Return the rows of each kind of case, with their numbers in the sheet.

    Raises:
        ConfigError: unreadable, or without a sheet or a column.
    """
    data = read_table(tree, TABLE)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as parts:
            if sum(part.file_size for part in parts.infolist()) > INFLATED_LIMIT:
                raise ConfigError(f"{TABLE} inflates to more than {INFLATED_LIMIT >> 20} MiB.")
        book = CalamineWorkbook.from_filelike(io.BytesIO(data))
        if missing := [name for name in SHEETS.values() if name not in book.sheet_names]:
            found = ", ".join(book.sheet_names)[:300]
            raise ConfigError(f"{TABLE} has no sheet {missing[0]}. Found: {found}.")
        cells = {
            case: book.get_sheet_by_name(name).to_python(skip_empty_area=False)
            for case, name in SHEETS.items()
        }
    except (CalamineError, zipfile.BadZipFile, ValueError, OSError) as error:
        raise ConfigError(f"{TABLE} is no readable Excel file ({type(error).__name__}).") from None
    return {case: list(_rows(sheet, case)) for case, sheet in cells.items()}


def _rows(sheet: Sequence[Sequence[object]], case: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (row number, cells by column) of what stands below a sheet's header."""
    texts = [[_text(cell) for cell in row] for row in sheet]
    titles = [[_plain(text) for text in row] for row in texts[:TITLE_ROWS]]
    above = next((n for n, row in enumerate(titles) if _plain(FOLDER) in row), None)
    if above is None:
        raise ConfigError(
            f"{TABLE}, sheet {SHEETS[case]}: none of the first {TITLE_ROWS} rows is a header with "
            f"the column {FOLDER}."
        )
    places = _places(texts[above], case, above + 1)
    for number, cells in enumerate(texts[above + 1 :], above + 2):
        row = {name: cells[place] for name, place in places.items()}
        if any(row.values()):
            yield number, {BIOPSY: "", **row}


def _places(header: list[str], case: str, number: int) -> dict[str, int]:
    """Return where the columns are; their names differ between the sheets in spaces and case."""
    plain = [_plain(name) for name in header]
    needed = COLUMNS if case == "normal" else (*COLUMNS, BIOPSY)
    table = f"{TABLE}, sheet {SHEETS[case]}: row {number}"
    for name in needed:
        if (count := plain.count(_plain(name))) != 1:
            problem = f"missing column {name}" if count == 0 else f"column {name} occurs twice"
            raise ConfigError(f"{table}: {problem}.")
    return {name: plain.index(_plain(name)) for name in needed}


def _plain(name: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", name.lower()))


def _text(cell: object) -> str:
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell).strip()


def _upper(names: Mapping[str, Scalar]) -> Callable[[str], Scalar]:
    """Return a parser of texts in any case that stand for values."""
    parse = one_of(names)
    return lambda text: parse(text.upper())


def _number(text: str) -> str:
    if _NUMBER.fullmatch(text) is None:
        raise ValueError("the number of a folder")
    return text


def _age(text: str) -> int:
    if re.fullmatch(r"[0-9]{1,3}", text) is None:
        raise ValueError("an age in years")
    return int(text)


def _category(text: str) -> str:
    if _birads.CATEGORY.fullmatch(text.lower()) is None:
        raise ValueError("a BI-RADS category such as 2 or 4a")
    return text.lower()


def _needed(row: Row, column: str, parse: Callable[[str], Scalar]) -> str:
    found = value(row, column, parse)
    if found is None:
        raise ValueError(f"{column} is empty")
    return str(found)


def _record(row: Row, image: _Image, card: Card, files: _Files) -> Record:
    number = _needed(row, FOLDER, _number)
    recent = _recent(row)
    about: dict[str, Scalar] = {"case": image.case, "round": image.round}
    known = recent if image.round == "recent" else {"abnormal": 0, "suspicious": 0}
    labels = {name: (known | about).get(name) for name in card.labels}
    patient = f"{image.case}-{number}"
    twin = TWINS.get(number, number) if image.case == "suspicious" else number
    return Record(
        key=make_key("bmcd", image.case, number, image.view, image.round),
        source="bmcd",
        group=f"{image.case}-{twin}",
        input=files.of(image.path(number)),
        patient_id=patient,
        image_id=f"{patient}-{image.view}-{image.round}",
        exam_id=f"{patient}-{image.round}",
        laterality=_needed(row, SIDE, _upper(SIDES)),
        view=image.view,
        label=_birads.code(labels, card.target),
        labels=labels,
        stratum=f"case={image.case} cancer={recent['cancer']} density={recent['density']}",
    )


def _recent(row: Row) -> dict[str, Scalar]:
    """Return what the table says of the recent round."""
    category = value(row, CATEGORY, _category)
    birads = None if category is None else str(category)
    biopsy = value(row, BIOPSY, _upper(BIOPSIES), UNKNOWN)
    return {
        "cancer": None if biopsy is None else int(biopsy != "benign"),
        "abnormal": _birads.abnormal(birads, findings=None),
        "suspicious": _birads.suspicious(birads),
        "birads": birads,
        "density": value(row, DENSITY, _upper(DENSITIES)),
        "age": value(row, AGE, _age),
        "biopsy": biopsy,
    }
