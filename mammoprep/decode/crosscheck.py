"""A second decoder's opinion on some images: do two programs read the same stored values?"""

from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoprep.core.errors import RecordError
from mammoprep.decode.codecs import DECODERS, NATIVE, Decoded, Frame, settle, words_by

_HASH_BYTES = 8


def chosen(key: str, share: float) -> bool:
    """Return whether a record belongs to the share that is checked, by a hash of its key.

    Args:
        key: Key of the record.
        share: 0 (none) to 1 (all); a larger share has all records of a smaller one.
    """
    place = int.from_bytes(sha256(f"crosscheck {key}".encode()).digest()[:_HASH_BYTES], "big")
    return place < share * (1 << 8 * _HASH_BYTES)


def confirm(frame: Frame, used: Decoded) -> tuple[str, ...]:
    """Compare what a build uses with what another decoder reads.

    The other one is the last of the syntax's row that is not the one used and can read the frame.
    Data that is not compressed has no decoder and needs none.

    Args:
        frame: The encoded frame.
        used: All its stored values, as the build reads them.

    Returns:
        ``crosscheck_impossible`` where no other decoder can read the frame.

    Raises:
        RecordError: ``decoder_disagreement``.
    """
    if frame.pixels.transfer_syntax in NATIVE:
        return ()
    for decoder in reversed(DECODERS[frame.pixels.transfer_syntax]):
        if decoder.label == used.decoder:
            continue
        try:
            words = words_by(decoder, frame)
        except RecordError:
            continue
        _compare(used, _settled(words, decoder.label, frame))
        return ()
    return ("crosscheck_impossible",)


def _settled(words: NDArray[Any], label: str, frame: Frame) -> Decoded:
    try:
        return settle(words, label, frame)
    except RecordError as error:
        raise RecordError("decoder_disagreement", f"{error.code} by {label} only") from None


def _compare(used: Decoded, other: Decoded) -> None:
    if np.array_equal(used.stored, other.stored):
        return
    away = np.abs(used.stored.astype(np.int32) - other.stored)
    raise RecordError(
        "decoder_disagreement",
        f"{np.count_nonzero(away)} of {away.size} values differ, by up to {away.max()}: "
        f"{used.decoder}, {other.decoder}",
    )
