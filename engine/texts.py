"""Text files, read whole. Rank 1, IO."""

from __future__ import annotations


def read(path: str) -> str:
    """Return a file's text, nothing when it cannot be read.

    Bytes that are no UTF-8 become surrogates (PEP 383), which `encode(errors="surrogateescape")` makes bytes again.
    """
    try:
        with open(path, "rb", buffering=0) as file:  # half the time of a text file
            return (file.read() or b"").decode(errors="surrogateescape")
    except OSError:
        return ""


def read_number(path: str) -> int | None:
    """Return the number that a file holds, or None."""
    text = read(path).strip()
    return int(text) if text.isdecimal() else None
