"""The root of the errors of all three packages; each leaf says who can mend it."""

from __future__ import annotations


class KeelageError(Exception):
    """Anything that this product raises on purpose."""


class ManifestError(KeelageError):
    """A user's manifest is wrong; the text names object, field, value and remedy."""


class MessageError(KeelageError):
    """Bytes on the control channel or in a state file that are not what they should be."""
