"""Code tables of the standard that a mammogram's header is checked against."""

FOR_PRESENTATION = "1.2.840.10008.5.1.4.1.1.1.2"
FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.2.1"
TOMOSYNTHESIS = "1.2.840.10008.5.1.4.1.1.13.1.3"
PROJECTION_FOR_PRESENTATION = "1.2.840.10008.5.1.4.1.1.13.1.4"
PROJECTION_FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.13.1.5"
DX_FOR_PRESENTATION = "1.2.840.10008.5.1.4.1.1.1.1"
DX_FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"
COMPUTED_RADIOGRAPHY = "1.2.840.10008.5.1.4.1.1.1"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

SOP_NAMES = {
    FOR_PRESENTATION: "mammography_for_presentation",
    FOR_PROCESSING: "mammography_for_processing",
    TOMOSYNTHESIS: "breast_tomosynthesis",
    PROJECTION_FOR_PRESENTATION: "breast_projection_for_presentation",
    PROJECTION_FOR_PROCESSING: "breast_projection_for_processing",
    DX_FOR_PRESENTATION: "digital_xray_for_presentation",
    DX_FOR_PROCESSING: "digital_xray_for_processing",
    COMPUTED_RADIOGRAPHY: "computed_radiography",
}

# Reports, presentation states, documents, waveforms, raw data, the directory of a medium.
NOT_IMAGES = (
    "1.2.840.10008.1.3.10",
    "1.2.840.10008.5.1.4.1.1.88.",
    "1.2.840.10008.5.1.4.1.1.11.",
    "1.2.840.10008.5.1.4.1.1.104.",
    "1.2.840.10008.5.1.4.1.1.9.",
    "1.2.840.10008.5.1.4.1.1.66",
)

SNOMED_SCHEMES = ("SCT", "SRT", "SNM3")

# Segmentation Storage, Label Map Segmentation Storage.
SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")

# PS3.16 CID 6014, 6054 and 7159, in the words that the sources use.
SEGMENT_KINDS = {
    "4147007": "mass", "M-03000": "mass",
    "129788004": "mass", "F-01791": "mass",
    "129769006": "calcification", "F-01775": "calcification",
    "129770007": "calcification", "F-01776": "calcification",
    "309587003": "calcification", "F-8A057": "calcification",
    "18115005": "calcification", "M-55420": "calcification",
    "129792006": "architectural distortion", "F-01795": "architectural distortion",
    "129790003": "asymmetry", "F-01793": "asymmetry",
    "129789007": "asymmetry", "F-01792": "asymmetry",
}  # fmt: skip

# PS3.16 CID 7150: categories of what is no lesion: anatomical structure, tissue.
NO_LESIONS = ("91723000", "T-D0005", "85756007", "T-D0050")

# PS3.16 CID 4014; a specimen is a view of its own, and never a screening picture.
VIEW_CODES = {
    "399162004": "CC", "R-10242": "CC",
    "399368009": "MLO", "R-10226": "MLO",
    "399260004": "ML", "R-10224": "ML",
    "399352003": "LM", "R-10228": "LM",
    "399099002": "LMO", "R-10230": "LMO",
    "399196006": "FB", "R-10244": "FB",
    "399188001": "SIO", "R-102D0": "SIO",
    "441555000": "ISO", "R-40AAA": "ISO",
    "399192008": "XCCL", "R-1024A": "XCCL", "Y-X1770": "XCCL",
    "399101009": "XCCM", "R-1024B": "XCCM", "Y-X1771": "XCCM",
    "127457009": "specimen", "G-8310": "specimen",
}  # fmt: skip

# PS3.16 CID 4015.
MODIFIER_CODES = {
    "399209000": "implant_displaced", "R-102D5": "implant_displaced",
    "399163009": "magnification", "R-102D6": "magnification",
    "399055006": "spot_compression", "R-102D7": "spot_compression",
    "399161006": "cleavage", "R-102D2": "cleavage",
    "399011000": "axillary_tail", "R-102D1": "axillary_tail",
    "399110001": "tangential", "R-102C2": "tangential",
    "399197002": "rolled_lateral", "R-102D3": "rolled_lateral",
    "399226006": "rolled_medial", "R-102D4": "rolled_medial",
    "414493004": "rolled_inferior", "R-102CA": "rolled_inferior",
    "415670009": "rolled_superior", "R-102C9": "rolled_superior",
    "442581004": "nipple_in_profile", "R-40AB3": "nipple_in_profile",
    "441752004": "anterior_compression", "P2-00161": "anterior_compression",
    "442593008": "inframammary_fold", "R-40ABE": "inframammary_fold",
    "442580003": "axillary_tissue", "R-40AB2": "axillary_tissue",
}  # fmt: skip
EXCLUDED_MODIFIERS = frozenset(("magnification", "spot_compression", "tangential"))

BREAST_CODES = frozenset(("76752008", "T-04000", "63762007", "T-04030", "73056007", "T-04020"))

# Image Type values 3, 4 and 5 (PS3.3 C.8.11.7.1.4) of biopsy, projection and contrast pictures.
EXCLUDED_IMAGE_TYPES = (
    frozenset(
        (
            "STEREO",
            "STEREO_SCOUT",
            "STEREO_PREFIRE",
            "STEREO_POSTFIRE",
            "PREFIRE",
            "POSTFIRE",
            "PRE_FIRE",
        )
    )
    | frozenset(
        ("POST_FIRE", "TOMO_PROJ", "TOMO_SCOUT", "PRE_CONTRAST", "POST_CONTRAST", "SUBTRACTION")
    )
    | frozenset(("LOW_ENERGY", "HIGH_ENERGY"))
)
KNOWN_IMAGE_TYPES = EXCLUDED_IMAGE_TYPES | frozenset(
    (
        "ORIGINAL",
        "DERIVED",
        "PRIMARY",
        "SECONDARY",
        "TOMOSYNTHESIS",
        "GENERATED_2D",
        "NONE",
        "LEFT",
        "RIGHT",
    )
)

MANUFACTURERS = (
    ("GE ", "GE"), ("GENERAL ELECTRIC", "GE"), ("HOLOGIC", "Hologic"), ("LORAD", "Hologic"),
    ("SIEMENS", "Siemens"), ("FUJI", "Fujifilm"), ("PHILIPS", "Philips"), ("SECTRA", "Philips"),
    ("PLANMED", "Planmed"), ("I.M.S", "IMS"), ("IMS", "IMS"), ("GIOTTO", "IMS"), ("AGFA", "Agfa"),
    ("CARESTREAM", "Carestream"), ("KODAK", "Carestream"), ("KONICA", "Konica Minolta"),
    ("CANON", "Canon"), ("TOSHIBA", "Canon"), ("METALTRONICA", "Metaltronica"),
    ("FISCHER", "Fischer"), ("VILLA", "Villa"),
)  # fmt: skip
