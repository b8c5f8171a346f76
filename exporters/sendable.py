"""Text that every store can take: valid Unicode, and no longer than stores keep whole.

A store that cuts silently would make one series of two; what is cut here keeps a fingerprint of the whole.
"""

from hashlib import sha256

LONGEST_BYTES = 16_384
"""VictoriaMetrics cuts the values of labels that are longer, unless told otherwise."""
_KEPT_BYTES = 16_000
_FINGERPRINT = 16


def sendable(text: str) -> str:
    """Give text of at most LONGEST_BYTES; most texts stay as they are.

    Halves of surrogate pairs, as names of files may have them, become backslash, u and four digits.
    """
    if text.isascii() and len(text) <= LONGEST_BYTES:
        return text
    encoded = text.encode("utf-8", "backslashreplace")
    if len(encoded) > LONGEST_BYTES:
        fingerprint = sha256(encoded).hexdigest()[:_FINGERPRINT]
        return f"{encoded[:_KEPT_BYTES].decode('utf-8', 'ignore')}…{fingerprint}"
    return encoded.decode()
