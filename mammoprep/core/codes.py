"""What every code means and what to do about it; for the report, ``inspect`` and the documents.

Plain data, so that a person can read it here and a program can import it. A code that is not listed
is shown as it is, with a sentence that says so.
"""

# Left out by a rule, on purpose. The same code may count as a failure where a dataset's own table
# promised an image; then the build's counts decide, not this set.
EXCLUDED = frozenset(
    {
        "duplicate",
        "for_processing",
        "multiframe",
        "no_file",
        "no_roi",
        "not_a_mammogram",
        "not_an_image",
        "not_dicom",
        "not_selected",
        "patient_in_official_test",
        "view_excluded",
    }
)

UNKNOWN = (
    "This code has no description in this version.",
    "Read the details below and run `mammoprep inspect` on one of the inputs.",
)

CODES: dict[str, tuple[str, str]] = {
    # The input itself
    "file_missing": (
        "The dataset's table lists the image, but there is no such file.",
        "Complete the download, or build what is there with `--missing skip`.",
    ),
    "no_file": (
        "The dataset's table lists the image, the file is absent, and `--missing skip` was given.",
        "Nothing, if only a part of the dataset was downloaded.",
    ),
    "no_roi": (
        "With `--roi`: nothing is outlined in the image, and no background tile was asked of it.",
        "Nothing; `--roi-ratio` decides how many tiles there are.",
    ),
    "unreadable": (
        "The file exists, but the system could not read it to its end.",
        "Check permissions and the disk, then build again with `--retry-failed`.",
    ),
    "unsafe_path": (
        "The table names a file outside the input folder; it was not opened.",
        "Check where the table comes from, and correct the path.",
    ),
    "input_changed": (
        "The file changed between planning and reading.",
        "Let the copy or download finish, then build again.",
    ),
    "not_selected": (
        "`mammoprep split` left the sample out: by `--where`, or as a copy of a val or test"
        " sample.",
        "Nothing; the expression is in `settings.where` of dataset.json.",
    ),
    "not_dicom": (
        "The file is not DICOM.",
        "Nothing, if other files are expected in the folder; otherwise download it again.",
    ),
    "not_an_image": (
        "The file holds no picture: a report, a presentation state or another kind of object.",
        "Nothing; such files belong to many exports.",
    ),
    "not_a_mammogram": (
        "The picture is of another kind or body part than mammography.",
        "Nothing, unless breast images are among the listed ones.",
    ),
    "wrong_sop_class": (
        "The SOP class is none that this build accepts.",
        "Look at one with `mammoprep inspect`; leave such series out of the export.",
    ),
    "for_processing": (
        "The image is For Processing: raw detector values that are not meant to be looked at.",
        "Nothing; the For Presentation image of the same view is the one to use.",
    ),
    "multiframe": (
        "The file holds several frames, as tomosynthesis does; this build takes single views.",
        "Nothing, or export the two-dimensional views.",
    ),
    "view_excluded": (
        "The view was not asked for, or it is a spot, magnification, specimen or biopsy image.",
        "Name the views to keep with `--views`.",
    ),
    "duplicate": (
        "The same image was found more than once; the first one was kept.",
        "Nothing.",
    ),
    "duplicate_uid_same": (
        "Two files carry the same SOP Instance UID and the same content; one was kept.",
        "Nothing, or remove the copy.",
    ),
    "duplicate_uid_diff": (
        "Two files carry the same SOP Instance UID but differ; neither can be trusted.",
        "Find out at the source of the data which one is right and remove the other.",
    ),
    "patient_in_official_test": (
        "The patient is also in the official test set, so the training part leaves the image out.",
        "Nothing; this keeps the test set clean.",
    ),
    "missing_label": (
        "The table has no usable label for this image.",
        "Check the table's row; choose another `--target` if the label is not meant to be there.",
    ),
    # The header and the code stream
    "no_pixels": (
        "The file has no Pixel Data.",
        "Download or export it again.",
    ),
    "no_transfer_syntax": (
        "The file does not say how its pixels are encoded.",
        "Export it again as a complete DICOM file.",
    ),
    "unsupported_syntax": (
        "No installed decoder reads this transfer syntax.",
        "Run `mammoprep doctor` to see which decoders are installed.",
    ),
    "header_missing": (
        "The header lacks what is needed to read the pixels, such as rows, columns or bits.",
        "Export the file again; the detail names what is missing.",
    ),
    "header_bounds": (
        "Rows, columns, frames or nesting are beyond what a mammogram has; nothing was decoded.",
        "Treat the file as damaged or hostile; get it again from its source.",
    ),
    "size_mismatch": (
        "The compressed picture has another size than the header says.",
        "Get the file again; header or pixels belong to another image.",
    ),
    "precision_mismatch": (
        "The compressed picture has more bits or another sign than the header allows.",
        "Get the file again; if all files of a device fail so, report it as a bug.",
    ),
    "bits_exceed_stored": (
        "Pixels use bits that Bits Stored excludes, so their values are ambiguous.",
        "Ask the source of the data which is right: the header or the values.",
    ),
    "pixel_length_mismatch": (
        "There are fewer or more bytes of pixels than rows, columns and bits require.",
        "The file was probably cut; download it again.",
    ),
    "not_monochrome": (
        "The image has colour or a palette where a grey image is expected.",
        "Usually a screenshot; leave it out of the export.",
    ),
    "voi_invalid": (
        "The window or VOI LUT is malformed and no other one is usable.",
        "Build with another `--window`, for example full or percentile.",
    ),
    "burned_in": (
        "The header says that text is burned into the picture; it may name a person.",
        "Look at the picture, and remove the text before using it.",
    ),
    # Decoding
    "decode_error": (
        "The decoder refused the pixels.",
        "The file is probably damaged; download it again.",
    ),
    "decoder_disagreement": (
        "Two decoders read different pixels from the file (`--crosscheck`).",
        "Run `mammoprep doctor`; if no decoder is at fault there, keep the file for a bug report.",
    ),
    "decode_crash": (
        "The decoder's process died on this file, twice.",
        "Treat the file as damaged; keep a copy for a bug report if many files do this.",
    ),
    "decode_timeout": (
        "Decoding used up its time.",
        "Build again with `--retry-failed`; if it repeats, treat the file as damaged.",
    ),
    "decode_oom": (
        "Decoding asked for more memory than one image may use.",
        "Treat the file as damaged or hostile, unless its size is plausible.",
    ),
    "internal_error": (
        "A fault in this program, not in the file.",
        "Please report it with the detail shown; the other inputs are not affected.",
    ),
    # The masks
    "mask_missing": (
        "A file with the outline of a finding is listed and absent.",
        "Get the rest of the dataset; the image alone would pass for one without findings.",
    ),
    "mask_not_binary": (
        "The file that should hold a mask holds another picture.",
        "Look at the mask file; some datasets swap masks with cut-outs.",
    ),
    "mask_size_mismatch": (
        "The mask has another shape than its image, not only another scale.",
        "Look at both; the mask may belong to another image.",
    ),
    "outlines_damaged": (
        "The file with the outlines of the image's findings is damaged or cannot be read.",
        "Download that file again; the image alone would pass for one without findings.",
    ),
    "outline_open": (
        "A drawn outline encloses nothing, even after small gaps are closed.",
        "Look at the outline's file; the finding's area cannot be known.",
    ),
    "no_spacing": (
        "`--mm-per-pixel` needs the distance of the pixels, and the file does not tell it.",
        "Build without `--mm-per-pixel`; the picture then fills the frame.",
    ),
    "larger_than_frame": (
        "At this `--mm-per-pixel` the picture is larger than `--size`.",
        "Give a larger --size or a larger --mm-per-pixel.",
    ),
    # The picture
    "blank_image": (
        "All pixels have the same or nearly the same value.",
        "Look at the original; usually an aborted exposure or a lost picture.",
    ),
    "nonsense_image": (
        "The pixels look like noise, not like a picture.",
        "Usually a damaged file or a wrong transfer syntax; download it again.",
    ),
    "no_tissue": (
        "No breast was found in the picture.",
        "Look at it with `mammoprep inspect`; for other kinds of pictures use `--crop none`.",
    ),
    "polarity_suspect": (
        "The background is brighter than the breast, as if black and white were exchanged.",
        "Look at it; scanned film with a white border is a harmless cause.",
    ),
    "mask_mismatch": (
        "The lesion mask does not fit the image: another size, shape or place.",
        "Do not use the mask of this image before someone has looked at it.",
    ),
    # Warnings: the sample was built
    "orientation_conflict": (
        "Header and pixels disagree about the side of the chest wall; the pixels were believed.",
        "Look at the second picture sheet: the chest wall must be at the left edge.",
    ),
    "orientation_unknown": (
        "Neither pixels nor header tell where the chest wall is; the image was not flipped.",
        "Look at some; a centred breast, a specimen or a close-up has no such side.",
    ),
    "mirrored_display": (
        "The image is stored mirrored compared with the usual display of its side.",
        "Nothing; the flip is recorded in the geometry. A whole dataset of them deserves a look.",
    ),
    "mask_rescaled": (
        "The mask had another scale than its image and was brought to the image's size.",
        "Nothing, unless the outlines in the report look wrong.",
    ),
    "mask_swapped": (
        "The first file named as mask was none; the next one was.",
        "Nothing; the dataset swaps some of them.",
    ),
    "colour_discarded": (
        "The picture has colours; their brightness was kept.",
        "Look at it: coloured marks on a grey picture become grey marks.",
    ),
    "exif_orientation_ignored": (
        "The JPEG says that it should be shown turned; it was read as stored.",
        "Nothing: outlines are given for the picture as stored.",
    ),
    "crop_fallback": (
        "The breast could not be outlined with confidence; a safe, larger crop was kept.",
        "Look at the second picture sheet; the breast is smaller in these samples.",
    ),
    "label_removed": (
        "A marker or label beside the breast was blackened.",
        "Look at some; nothing of the breast may be missing.",
    ),
    "voi_missing": (
        "A For Presentation image without window and VOI LUT; its full range was used.",
        "Compare its brightness with the other machines below.",
    ),
    "laterality_conflict": (
        "Header and table disagree about the side (left or right).",
        "Check the dataset's notes; labels given per breast may belong to the other side.",
    ),
    "view_conflict": (
        "Header and table disagree about the view.",
        "Check before comparing results by view.",
    ),
    "sop_class_missing": (
        "The header does not say what kind of object the file is; a mammogram was assumed.",
        "Nothing, if the dataset had its headers stripped; else look at some.",
    ),
    "kind_assumed": (
        "Neither Modality nor body part nor view says what the file of a bare folder shows; a"
        " mammogram was assumed.",
        "Nothing, if headers were stripped; else look at some, and leave other pictures out.",
    ),
    "intent_conflict": (
        "The header says both For Presentation and For Processing; the SOP class was believed.",
        "Look at some; detector values look flat and much too dark or bright.",
    ),
    "computed_radiography": (
        "The image comes from a storage-plate device, whose files follow other rules.",
        "Compare its brightness with the other machines below.",
    ),
    "secondary_capture": (
        "The image is a scan or a screenshot; its header says little about its grey values.",
        "Nothing for scanned film; else look at some.",
    ),
    "presentation_conflict": (
        "Two header fields disagree whether black and white are exchanged; the first one,"
        " Photometric Interpretation, was believed.",
        "Look at some: the background must be black.",
    ),
    "signed_pixels": (
        "Pixels are signed, which mammograms never are; the sign was honoured.",
        "Look at some; the brightness must be plausible.",
    ),
    "modality_lut": (
        "The file has a Modality LUT, which mammograms must not have; it was applied.",
        "Compare its brightness with the other machines below.",
    ),
    "modality_not_identity": (
        "The file has a rescale slope or intercept, which mammograms must not have; both applied.",
        "Compare its brightness with the other machines below.",
    ),
    "modality_conflict": (
        "The file has both a Modality LUT and a rescale slope; the LUT was applied.",
        "Compare its brightness with the other machines below.",
    ),
    "rescale_invalid": (
        "The rescale slope is 0 or no number of an image, and was not applied.",
        "Nothing, unless the brightness looks wrong.",
    ),
    "window_invalid": (
        "A window has an impossible width; the next valid one or the full range was used.",
        "Compare its brightness with the other machines below.",
    ),
    "window_count_mismatch": (
        "There are more window centres than widths or fewer; only whole pairs were used.",
        "Nothing.",
    ),
    "lut_invalid": (
        "A VOI LUT is empty or holds only zeros and was passed over.",
        "Nothing, unless the brightness looks wrong.",
    ),
    "lut_short": (
        "A LUT has fewer entries than it states; beyond them its last entry was used.",
        "Look at the brightest parts of some.",
    ),
    "precision_below_stored": (
        "The compressed picture has fewer bits than the header says.",
        "Nothing, unless the image looks too dark.",
    ),
    "lossy_clipped": (
        "Lossy compression pushed some values above the range; they were cut to it.",
        "Nothing.",
    ),
    "crosscheck_impossible": (
        "The image was to be decoded twice (`--crosscheck`), but no second decoder reads its kind.",
        "Nothing; the table of decoders in docs/decoders.md says which kinds have only one.",
    ),
    "padding_inside": (
        "Pixels inside the picture have the padding value; they were kept as picture.",
        "Nothing; only padding that touches the border is removed.",
    ),
    "padding_excessive": (
        "Nearly the whole picture is marked as padding.",
        "Look at it; the header's padding value may be wrong.",
    ),
    "spacing_invalid": (
        "The pixel spacing is malformed or implausible and was ignored.",
        "Do not measure in millimetres on these images.",
    ),
    "lut_depth_understated": (
        "The VOI LUT holds larger values than its stated depth; the larger depth was used.",
        "Nothing, unless the brightness of the machine looks wrong below.",
    ),
    "lut_depth_overstated": (
        "The VOI LUT never reaches its stated depth; its own maximum was taken as white.",
        "Nothing, unless the brightness of the machine looks wrong below.",
    ),
}


def explain(code: str) -> tuple[str, str]:
    """Return (what the code means, what to do); a general answer for a code that is not listed."""
    return CODES.get(code, UNKNOWN)
