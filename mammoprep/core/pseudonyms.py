"""Keyed hashes that stand for identifiers: the same for the same key, meaningless without it."""

import hmac
import json
from hashlib import sha256

DIGITS = 32


def pseudonym(secret: str, level: str, *parts: str) -> str:
    """Return what stands for an identifier: HMAC-SHA-256, its first 128 bits in hexadecimal.

    An identifier without a key is found by trying all that there can be; a patient number has few
    digits, and even a UID can be looked up in a list.

    Args:
        secret: The key, in hexadecimal.
        level: What is named, such as ``patient`` or ``image``: equal texts of two levels differ.
        parts: The identifier.
    """
    message = json.dumps([level, *parts]).encode("ascii")
    return hmac.new(bytes.fromhex(secret), message, sha256).hexdigest()[:DIGITS]
