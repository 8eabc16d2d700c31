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
        "There is no such file; in a build, the dataset's table lists it.",
        "Check the path. Complete the download, or build what is there with `--missing skip`.",
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
        "The file is neither DICOM nor, where a table names it, a picture that is read; the detail"
        " names what it is.",
        "Nothing, if other files are expected in the folder; otherwise do what the detail says.",
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
        "Rows, columns, bits, frames or nesting are beyond what a mammogram has or"
        " contradict each other; nothing was decoded.",
        "Treat the file as damaged or hostile; get it again from its source.",
    ),
    "prefix_missing": (
        "The file holds elements of DICOM, but not the mark DICM after 128 bytes that"
        " begins such a file.",
        "Export it again as a complete DICOM file; other programs do not read it either.",
    ),
    "syntax_mismatch": (
        "The transfer syntax says another encoding than the data have: compressed or not,"
        " another codec, or another byte order.",
        "Export the file again, or correct Transfer Syntax UID; pixels and header are not damaged.",
    ),
    "float_pixels": (
        "The pixels are floating-point numbers (Float or Double Float Pixel Data), which"
        " are not read.",
        "Export the For Presentation image, with whole numbers of 8 or 16 bits.",
    ),
    "bits_unsupported": (
        "The pixels have a number of bits that is legal in DICOM and not read here, such"
        " as 1 or 32.",
        "Export them with 8 or 16 bits allocated and 6 or more stored.",
    ),
    "frames_mismatch": (
        "The pixel data hold more pictures than Number of Frames says; which one is meant"
        " is unknown.",
        "Ask the source of the data; export single frames, or correct Number of Frames.",
    ),
    "size_mismatch": (
        "The compressed picture has another size than the header says.",
        "Get the file again; header or pixels belong to another image.",
    ),
    "precision_mismatch": (
        "The compressed picture has more bits than the header allows, or another sign for"
        " which readers differ.",
        "Get the file again; if all files of a device fail so, ask its maker which of the"
        " two is right.",
    ),
    "bits_exceed_stored": (
        "Pixels use bits that Bits Stored excludes, so their values are ambiguous.",
        "Ask the source of the data which is right: the header or the values.",
    ),
    "pixel_length_mismatch": (
        "There are fewer or more bytes of pixels than rows, columns and bits require.",
        "Fewer: the file was probably cut, download it again. More: header and pixels are"
        " of two pictures.",
    ),
    "not_monochrome": (
        "The image has colour or a palette where a grey image is expected.",
        "Usually a screenshot; leave it out of the export.",
    ),
    "voi_invalid": (
        "The window or VOI LUT is malformed and no other one is usable.",
        "Build with another `--window`, for example full or percentile.",
    ),
    "picture_unsupported": (
        "A kind of picture that is not read, such as floating point, four inks or 12-bit JPEG; the"
        " detail says which.",
        "Save it as PNG or TIFF with 8 or 16 bits a sample and one channel.",
    ),
    "window_not_applicable": (
        "The window or range that was asked for does not apply to this kind of file.",
        "Leave it out, or see docs/grayscale.md, Pictures; `--range` gives pictures a range.",
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
    "mask_colours": (
        "The mask is drawn in colours, and nothing says what each of them is.",
        "Name each colour of the detail, as in `--mask-values '#ff0000=mass,#00ff00=ignore'`;"
        " black is background.",
    ),
    "mask_unnamed": (
        "The mask has values that `--mask-values` does not name.",
        "Name them too: what is no finding as in `3=ignore`.",
    ),
    "mask_planes": (
        "The mask has several frames, or it is a segmentation in tiles or at several places.",
        "Export the one frame that lies on the image, or a segmentation of that image alone.",
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
    "two_levels": (
        "All pixels have one of two values: a mask or a drawing, not a picture.",
        "Leave it out, or name it as the mask of its image.",
    ),
    "no_tissue": (
        "No breast was found in the picture.",
        "Look at it with `mammoprep inspect`; for other kinds of pictures use `--crop none`.",
    ),
    "polarity_suspect": (
        "The background is brighter than the breast, as if black and white were exchanged.",
        "Look at it; scanned film with a white border is a harmless cause.",
    ),
    "half_lost": (
        "The picture breaks off along a straight line and is one colour from there on.",
        "Usually a download or a conversion that was interrupted; get the original again.",
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
    "roi_clipped": (
        "An outline reaches over the edge of the image; the part on the image was kept.",
        "Nothing for a pixel or two; else check whose coordinates they are.",
    ),
    "roi_outside": (
        "An outline lies outside of the image: it was dropped, and the annotation is `unusable`, or"
        " `partial` where others are left. With `--roi` such an image fails.",
        "Check whose coordinates they are: often those of a copy of another size, or mirrored.",
    ),
    "roi_shares": (
        "An outline lies within the first pixel, as if its numbers were shares of the image and not"
        " pixels: it was dropped as under `roi_outside`.",
        "Multiply the table's numbers by the image's width and height.",
    ),
    "lesion_cut": (
        "The crop cut off some of an annotated lesion; `quality.lesion_lost` says how much of it.",
        "Build with the `--crop-margin` that the summary names, which widens the crop of all images"
        " alike, or with `--crop none`.",
    ),
    "mask_rescaled": (
        "The mask had another scale than its image and was brought to the image's size.",
        "Nothing, unless the outlines in the report look wrong.",
    ),
    "mask_swapped": (
        "The first file named as mask was none; the next one was.",
        "Nothing; the dataset swaps some of them.",
    ),
    "mask_instances": (
        "The mask numbers several findings; each number became a finding of its own in `rois`.",
        "Nothing, if they are lesions: `--mask-values classes`, or `1=mass,2=calcification`, "
        "says that they are kinds, `binary` that all is one.",
    ),
    "mask_empty": (
        "A mask is empty where the table names a finding, or does not say that there is none."
        " With a named finding the annotation became partial, or unusable where nothing else "
        "is outlined (with `--roi` a failure).",
        "Look at the mask file; an outline that is lost there cannot be learned from.",
    ),
    "mask_faint": (
        "Values close to black hold areas in the mask, or a JPEG that is nearly black stands "
        "for it; they were taken for black.",
        "Look at the mask; write numbers of findings without lossy compression.",
    ),
    "mask_background": (
        "No pixel of the mask is 0; the value on most of its border was taken as background.",
        "Nothing, if the outlines in the report look right; `--mask-values "
        "1=background,2=mass` says it.",
    ),
    "mask_inverted": (
        "The mask's foreground fills all corners and most of the image, as if fore- and "
        "background were exchanged.",
        "Look at the outlines in the report; `--mask-values 0=mass,255=background` turns them.",
    ),
    "mask_in_alpha": (
        "The mask's opacity tells more than its colours: it was used.",
        "Nothing, if the outlines in the report look right.",
    ),
    "mask_hole": (
        "The mask encloses more than 1 % of its area that is not in it; outlines have no holes, so"
        " it was filled.",
        "Nothing, if the finding is what its outer edge encloses.",
    ),
    "mask_conflict": (
        "`--mask-values` names a finding otherwise than the table's row; the name was believed.",
        "Check which of the two is right.",
    ),
    "mask_anatomy": (
        "A segment that is normal anatomy by its own category was left out of the findings.",
        "Nothing; `--mask-values 1=mass,2=ignore` names segments by their numbers.",
    ),
    "colour_discarded": (
        "The picture has colours; their brightness was kept.",
        "Look at it: coloured marks on a grey picture become grey marks.",
    ),
    "range_unused": (
        "A picture leaves most of its range unused, and is dark, nearly black or nearly white; it"
        " was not stretched.",
        "Say what its largest value can be: `--range 4095` for 12 bits, or a range column. For "
        "DICOM give another `--window`: percentile or CENTER,WIDTH.",
    ),
    "voi_saturated": (
        "Window, VOI LUT or range leave hardly any greys: most of what is not dark is full white.",
        "Look at it; give another `--window` (percentile, full or CENTER,WIDTH) or `--range`.",
    ),
    "pixels_not_square": (
        "The header states pixels that are not square; the picture was delivered as stored, and is"
        " too narrow or too wide.",
        "Look at some. Resample the files to square pixels, or leave these images out.",
    ),
    "presentation_lut_ignored": (
        "The header has a Presentation LUT that is no identity, which mammograms must not have; it"
        " was not applied.",
        "Compare its brightness with the other machines below.",
    ),
    "range_clipped": (
        "A picture has values outside of the range that table, option or file state; they were cut"
        " to it.",
        "Check the range: it is likely that of another device or depth.",
    ),
    "exif_orientation_ignored": (
        "The picture says that it should be shown turned; it was read as stored.",
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
    "view_unknown": (
        "With `--crop tight`: neither table nor header tells the view, so nothing was cut off below"
        " the fold.",
        "Name the table's column of views, or use `--crop breast`, which makes the same of it.",
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
        "The rescale slope is 0, or slope or intercept is no number of an image; neither was"
        " applied.",
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
    "file_meta_odd": (
        "The file begins otherwise than DICOM demands (no preamble, no meta information,"
        " or an odd one); the encoding was taken from its elements.",
        "Nothing, unless the pictures look wrong; export such files again to be rid of it.",
    ),
    "excess_bytes": (
        "Bytes follow the picture in the pixel data; they were passed over.",
        "Look at some: rows that shift sideways mean that Rows or Columns are wrong.",
    ),
    "sign_assumed": (
        "The header does not say whether pixels have a sign; they were read without one.",
        "Look at some: a signed picture read so has black and white parts that should meet.",
    ),
    "sign_mismatch": (
        "The compressed picture has another sign than Pixel Representation says; all"
        " values mean the same either way.",
        "Nothing; report it to the maker of the device.",
    ),
    "lut_first_sign": (
        "The first value that a LUT maps has a type that does not fit the range of its"
        " input, or both signs fit; the range decided, else the type.",
        "Compare its brightness with the other machines below.",
    ),
    "frame_groups_conflict": (
        "The header and its functional groups differ about window, rescale or spacing;"
        " the header's own value was used, else the frame's.",
        "Compare its brightness with the other machines below.",
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
