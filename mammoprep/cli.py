"""The command line: options in, one call, one printout."""

import json
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mammoprep import __version__
from mammoprep.core.errors import (
    EXIT_DAMAGE,
    EXIT_OK,
    ConfigError,
    MammoError,
    RecordError,
    ResourceError,
)
from mammoprep.core.text import by

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Mammograms from DICOM to verified WebDataset shards.\n\n"
    "Try it without data: mammoprep build --source demo --size 256x512",
)

SIZES = ("stored_size", "size")  # (rows, columns) in JSON, WIDTHxHEIGHT for people
Out = Annotated[Path, typer.Argument(metavar="DIR", help="A built dataset.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Handle options that stand before a command."""
    if version:
        typer.echo(f"mammoprep {__version__}")
        raise typer.Exit


@app.command()
def build(
    source: Annotated[
        str | None, typer.Option(help="Dataset: rsna, demo, ... (mammoprep sources).")
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="WIDTHxHEIGHT of the finished image in pixels.")
    ] = None,
    input: Annotated[
        str | None,
        typer.Option(
            help="The dataset's folder, its parent, or its zip. (default: data/raw/SOURCE)"
        ),
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="Where to build. (default: data/shards/SOURCE)")
    ] = None,
    fit: Annotated[
        str | None, typer.Option(help="pad (keep the aspect ratio) or stretch. (default: pad)")
    ] = None,
    bits: Annotated[int | None, typer.Option(help="8 or 16 a pixel. (default: 8)")] = None,
    format: Annotated[
        str | None, typer.Option(help="png, or jpeg (lossy, 8 bits). (default: png)")
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(
            help="auto (the file's own VOI), full, percentile or CENTRE,WIDTH. (default: auto)"
        ),
    ] = None,
    decode: Annotated[
        str | None,
        typer.Option(
            help="exact, or fast: JPEG 2000 only as fine as --size needs. (default: exact)"
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="Which label becomes `label`; with --roi pathology, lesion or kind-pathology."
        ),
    ] = None,
    crop: Annotated[
        str | None, typer.Option(help="breast, tight (not below the fold) or none.")
    ] = None,
    crop_margin: Annotated[
        float | None,
        typer.Option(help="Margin around the breast, as a share of its box. (default: 0.02)"),
    ] = None,
    range: Annotated[
        str | None,
        typer.Option(
            help="Pictures: HIGH or LOW,HIGH, the values of black and white; auto; percentile."
        ),
    ] = None,
    mask_values: Annotated[
        str | None,
        typer.Option(
            help="Mask files: binary, instances, classes or VALUE=NAME,... (default: instances)"
        ),
    ] = None,
    orient: Annotated[
        str | None, typer.Option(help="left (chest wall at the left) or none.")
    ] = None,
    folds: Annotated[
        int | None, typer.Option(help="Patient-grouped, stratified folds. (default: 5)")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the folds. (default: 0)")] = None,
    split_file: Annotated[
        str | None,
        typer.Option(
            help="CSV of group,split, or a samples.parquet: known groups keep their split."
        ),
    ] = None,
    shard_size: Annotated[
        int | None, typer.Option(help="Mean inputs a shard. (default: 16 to 256, by dataset size)")
    ] = None,
    missing: Annotated[
        str | None,
        typer.Option(
            help="A listed file that is absent: fail, or skip (count as excluded). [fail]"
        ),
    ] = None,
    max_failures: Annotated[
        str | None,
        typer.Option(
            help="How many inputs may fail (5 or 1%) before the exit status is 3. (default: 0)"
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first N inputs.")] = None,
    crosscheck: Annotated[
        str | None,
        typer.Option(
            help="Share of the images (1%, 100%) that a second decoder must read alike. "
            "(default: 0%)"
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Parallel workers. (default: all cores)")
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(help="local; dask:// and ray:// are not built yet. (default: local)"),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, or cuda: decode on a GPU, same bytes. (default: cpu)")
    ] = None,
    retry_failed: Annotated[
        bool | None, typer.Option("--retry-failed", help="Give failed inputs another try.")
    ] = None,
    fresh: Annotated[
        bool | None,
        typer.Option("--fresh", help="Start over; removes only what a build writes."),
    ] = None,
    config: Annotated[
        str | None, typer.Option(help="TOML file of the same options; the command line wins.")
    ] = None,
    intersection: Annotated[
        bool | None,
        typer.Option("--intersection", help="Also write image x lesion mask; it tells the label."),
    ] = None,
    table: Annotated[
        str | None,
        typer.Option(help="--source table: your CSV or Excel table. (default: INPUT/table.csv)"),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(help="--source table: MEANING=COLUMN,... such as path=file,label=cancer."),
    ] = None,
    label_names: Annotated[
        str | None,
        typer.Option(help="--source table: the classes by code. (default: the table's, sorted)"),
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="--source table: of its text, such as utf-16 or cp1252.")
    ] = None,
    sheet: Annotated[
        str | None, typer.Option(help="--source table: the Excel sheet, by name or number from 1.")
    ] = None,
    header_row: Annotated[
        int | None, typer.Option(help="--source table: the row of the column names, from 1.")
    ] = None,
    label_map: Annotated[
        str | None,
        typer.Option(help='--source table: LABEL=CLASS,... such as "B2=benign,NST G2=malignant".'),
    ] = None,
    roi: Annotated[
        str | None,
        typer.Option(help="WIDTHxHEIGHT: lesion patches and background tiles; then no --size."),
    ] = None,
    roi_ratio: Annotated[
        str | None,
        typer.Option(help="Lesion patches to background tiles, such as 1:3. (default: 1:1)"),
    ] = None,
    roi_copies: Annotated[
        int | None,
        typer.Option(help="Augmented copies of each patch, in -aug shards. (default: 0)"),
    ] = None,
    roi_padding: Annotated[
        float | None,
        typer.Option(help="Margin around a lesion, as a share of its size. (default: 0.2)"),
    ] = None,
    roi_shrink: Annotated[
        float | None,
        typer.Option(help="Stored pixels a patch's pixel: 2 makes 299 of 598. (default: 2)"),
    ] = None,
    balance: Annotated[
        str | None,
        typer.Option(
            help="Label whose classes augmented copies make level, in -aug shards: label, density."
        ),
    ] = None,
    views: Annotated[str | None, typer.Option(help="Only these views, such as CC,MLO.")] = None,
    mm_per_pixel: Annotated[
        float | None, typer.Option(help="Scale by physical spacing instead of filling the frame.")
    ] = None,
    key_file: Annotated[
        str | None,
        typer.Option(help="--source dicom: the secret behind its ids, 16 bytes or more."),
    ] = None,
    id_map: Annotated[
        str | None,
        typer.Option(help="--source dicom: private CSV to write, which file each id stands for."),
    ] = None,
) -> None:
    """Build a dataset's images into WebDataset shards; run again to resume or repair."""
    given = dict(locals())
    from mammoprep import builder, console, options

    config_of_build = options.build_config(given)
    screen = Console(stderr=True)
    result = builder.build(config_of_build, console.ConsoleWatcher(screen))
    console.show_result(screen, result)
    raise typer.Exit(result.exit_code)


@app.command()
def verify(directory: Out, as_json: AsJson = False) -> None:
    """Re-read every shard and compare it, bit for bit, with the manifest."""
    from dataclasses import asdict

    from mammoprep.verify import verify as check

    verdict = check(directory)
    if as_json:
        typer.echo(json.dumps(asdict(verdict), indent=2))
    else:
        for damage in verdict.damages:
            key = f"  {damage.key}" if damage.key else ""
            typer.echo(f"{damage.shard}{key}  {damage.what}")
        word = "damaged" if verdict.damages else "whole"
        typer.echo(
            f"{directory} is {word}: {verdict.shards:,} shards, {verdict.samples:,} samples."
        )
    if verdict.damages:
        if not as_json:
            typer.echo("Run the same build command again: it mends what is damaged.", err=True)
        raise typer.Exit(EXIT_DAMAGE)


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="A DICOM file or a picture (PNG, TIFF ...).")],
    as_json: AsJson = False,
    save: Annotated[
        Path | None, typer.Option(help="Write a PNG: exact, on the stored grid, or with --size.")
    ] = None,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT: the finished picture.")] = None,
    window: Annotated[str, typer.Option(help="As in build.")] = "auto",
    range: Annotated[str, typer.Option(help="As in build: for pictures.")] = "auto",
    bits: Annotated[int, typer.Option(help="8 or 16.")] = 8,
    crop: Annotated[
        str, typer.Option(help="As in build; tight tells where the fold is.")
    ] = "breast",
) -> None:
    """One DICOM file or picture: every decision taken, as a table; with --save, as a picture."""
    from mammoprep.config import parse_size
    from mammoprep.inspect_file import inspect as look

    result = look(
        file,
        size=parse_size(size) if size else None,
        window=window,
        bits=bits,
        save=save is not None,
        crop=crop,
        range=range,
    )
    if save is not None and result.picture is not None:
        save.write_bytes(result.picture)
    if as_json:
        typer.echo(json.dumps(result.facts, indent=2))
        return
    table = Table("decision", "value", title=file.name)
    for name, value in result.facts.items():
        shown = by(*value) if name in SIZES else _shown(value)
        table.add_row(name, escape(shown))
    Console().print(table)


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value)


@app.command()
def sources(as_json: AsJson = False) -> None:
    """List the datasets that can be built, their licences and where to get them."""
    from dataclasses import asdict

    from mammoprep.core import cards, plugins

    found = {name: cards.load(name) for name in plugins.names("mammoprep.sources")}
    if as_json:
        typer.echo(json.dumps({name: asdict(card) for name, card in found.items()}, indent=2))
        return
    for name, card in found.items():
        size = ", ".join(f"{number:,} {what}" for what, number in card.expected.items())
        typer.echo(f"{name}\n  {card.title}{f' ({size})' if size else ''}")
        typer.echo(f"  target:   {card.target} = {', '.join(card.targets[card.target])}")
        typer.echo(f"  licence:  {card.licence}")
        if card.home_page:
            typer.echo(f"  home:     {card.home_page}")
        typer.echo(f"  build:    mammoprep build --source {name} --size 728x1456\n")


@app.command()
def phantom(
    out: Annotated[Path, typer.Option(help="A new or empty folder.")],
    layout: Annotated[str, typer.Option(help="A source's: rsna, busi, ...")] = "rsna",
    patients: Annotated[int, typer.Option(help="How many patients.")] = 10,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    size_scale: Annotated[float, typer.Option(help="Share of the real rows and columns.")] = 1.0,
    prevalence: Annotated[float, typer.Option(help="Share of patients with cancer.")] = 0.2,
    workers: Annotated[int, typer.Option(help="Processes.")] = 1,
) -> None:
    """Write synthetic mammograms in a dataset's own layout, with truth beside them."""
    from mammoprep.synthesis import phantom as write

    write(
        layout,
        out,
        patients=patients,
        seed=seed,
        size_scale=size_scale,
        prevalence=prevalence,
        workers=workers,
    )
    typer.echo(f"Wrote {patients} phantom patients in the layout of {layout} to {out}.", err=True)


@app.command()
def report(directory: Out) -> None:
    """Write report.html of a built dataset again."""
    from mammoprep.rewrite import rewrite_report

    typer.echo(str(rewrite_report(directory)))


@app.command()
def bench(
    input: Annotated[Path, typer.Option(help="A folder, a zip or a file of DICOM images.")],
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT of the finished picture.")] = "728x1456",
    limit: Annotated[int, typer.Option(help="How many images to measure.")] = 20,
    decode: Annotated[str, typer.Option(help="exact, fast or both.")] = "both",
    as_json: AsJson = False,
) -> None:
    """Measure how long each stage takes on this machine, for your own files."""
    from mammoprep import bench as measure
    from mammoprep.config import parse_size

    result = measure.bench(input, size=parse_size(size), limit=limit, decode=decode)
    if as_json:
        typer.echo(json.dumps(result, indent=2))
        return
    screen = Console()
    for table in measure.tables(result):
        screen.print(table)
    for code, count in result["failures"].items():
        typer.echo(f"{count:,} of {result['looked_at']:,} files left out: {code}", err=True)
    typer.echo(result["bottleneck"])


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Try every decoder on frames with known values; exit status 4 when one reads them wrongly.

    Each decoder runs in a process of its own, so that a crash is a line of the table. "partly" is
    healthy: the next decoder of the syntax reads the rest. Run it after an installation or an
    update, and before a build that takes days.
    """
    from mammoprep import doctor as examiner

    found = examiner.examine()
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
    else:
        Console().print(examiner.table(found))
        typer.echo(
            "Every decoder is right." if found.healthy else "Do not build: see the red lines."
        )
    raise typer.Exit(found.exit_code)


@app.command()
def export(
    directory: Out,
    out: Annotated[Path, typer.Option(help="A new or empty folder.")],
    split: Annotated[
        list[str] | None, typer.Option(help="Only this split; may be given several times.")
    ] = None,
) -> None:
    """Write a dataset's samples as plain image files and a CSV, for tools that read folders."""
    from mammoprep.export import export as write

    count = write(directory, out, splits=split or ())
    typer.echo(f"Wrote {count:,} samples to {out}; {out / 'samples.csv'} lists them.", err=True)


@app.command()
def diff(
    old: Annotated[Path, typer.Argument(help="A finished dataset.")],
    new: Annotated[Path, typer.Argument(help="Another one.")],
    as_json: AsJson = False,
) -> None:
    """Show what changed between two builds: settings, samples, labels, pixels, geometry."""
    from mammoprep.differences import compare

    found = compare(old, new)
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
        return
    for line in found.settings:
        typer.echo(f"setting  {line}")
    for kind, count in found.counts.items():
        named = ", ".join(found.examples.get(kind, []))
        typer.echo(f"{count:>8,}  {kind}{f'  ({named})' if named else ''}")
    for column, count in found.columns.items():
        typer.echo(f"{count:>8,}    differ in {column}")


@app.command()
def split(
    directories: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="Finished datasets; more than one with --check."),
    ],
    out: Annotated[Path | None, typer.Option(help="A new or empty folder.")] = None,
    folds: Annotated[
        int | None, typer.Option(help="Patient-grouped, stratified folds. (default: 5)")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the folds. (default: 0)")] = None,
    where: Annotated[
        str | None,
        typer.Option(help="Only these samples, such as: view == 'CC' and labels.density == 'D'"),
    ] = None,
    split_file: Annotated[
        Path | None,
        typer.Option(help="Groups and their splits, as in build; all others go into folds."),
    ] = None,
    test: Annotated[
        str | None,
        typer.Option(help="20% of the groups, or so many, become the test set; the rest folds."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Write nothing; look for leaks. Exit status 4 if there are."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --check: JSON on stdout.")] = False,
) -> None:
    """Put finished samples into other folds, keep some of them, or check splits for leaks.

    A leak makes scores too good: a patient, a picture or a copy of it is in training and in test.
    --check finds groups and patients in two splits; the same pixels twice; pictures that were saved
    again, scaled, cropped, brightened, mirrored or slightly turned; and augmented copies in the
    wrong place. It says what it compared and what to do. Run it before you trust a score, above all
    on data from several places. Several datasets are compared with each other: what is in two of
    them is a leak, whatever its splits are called.

        mammoprep split data/shards/rsna --check
        mammoprep split data/shards/rsna data/shards/busi --check
        mammoprep split data/shards/rsna --out NEW --where "view == 'CC'"
        mammoprep split data/shards/rsna --out NEW --test 20%

    Without --check a new dataset is written to --out, and nothing is decoded.
    """
    if check:
        others = {"out": out, "folds": folds, "seed": seed, "where": where, "test": test}
        _check_only({**others, "split-file": split_file})
        _show_leaks(directories, as_json=as_json)
        return
    directory = _one_dataset(directories)
    if out is None or as_json:
        raise ConfigError("split writes to --out NEW, or, with --check [--json], looks for leaks.")
    from mammoprep.repack import Wanted, repack

    if split_file is not None and not split_file.is_file():
        raise ConfigError(f"--split-file {split_file} does not exist.")
    wanted = Wanted(split_file, test, tell=lambda line: typer.echo(f"warning: {line}", err=True))
    folds = 5 if folds is None else folds
    made = repack(directory, out, folds=folds, seed=seed or 0, where=where, wanted=wanted)
    for name, found in made["counts"]["splits"].items():
        typer.echo(f"{name:<9} {found['samples']:>8,} samples  {found['groups']:>7,} groups")


def _check_only(others: dict[str, Any]) -> None:
    if given := [f"--{name}" for name, value in others.items() if value is not None]:
        raise ConfigError(
            f"--check writes nothing, so it cannot be given with {', '.join(given)}. "
            "First check, then split."
        )


def _one_dataset(directories: list[Path]) -> Path:
    if len(directories) > 1:
        raise ConfigError("Several datasets can be compared with --check, but not split at once.")
    return directories[0]


def _show_leaks(directories: list[Path], *, as_json: bool) -> None:
    import time

    from mammoprep.across import find_across
    from mammoprep.console import QUIET_SECONDS
    from mammoprep.findings import lines
    from mammoprep.leaks import find_leaks

    screen = Console(stderr=True)
    last = time.monotonic()

    def tell(what: str, done: int, total: int) -> None:
        nonlocal last
        text = f"{done:,}/{total:,} {what}"
        status.update(text)
        if not screen.is_terminal and time.monotonic() - last >= QUIET_SECONDS:
            last = time.monotonic()
            screen.print(text)

    with screen.status("Looking for leaks.") as status:
        if len(directories) > 1:
            found = find_across(directories, tell)
        else:
            found = find_leaks(directories[0], tell)
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
    else:
        typer.echo("\n".join(lines(found)))
    if found.leaks:
        raise typer.Exit(EXIT_DAMAGE)


def run() -> int:
    """Run the command line; errors made on purpose are one line, bugs keep their traceback."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupted)
    try:
        app()
    except MammoError as error:
        return _report(error)
    return EXIT_OK


def _interrupted(number: int, _: object) -> None:
    raise ResourceError(f"Interrupted by {signal.Signals(number).name}.")


def _report(error: MammoError) -> int:
    """Print one line for an error made on purpose; return its exit status."""
    hint = ""
    if isinstance(error, RecordError):
        from mammoprep.core.codes import CODES, UNKNOWN

        hint = "\n" + " ".join(CODES.get(error.code, UNKNOWN))
    sys.stderr.write(f"error: {error}{hint}\n")
    return error.exit_code
