r"""Control characters in cells and names: seen, never obeyed.

psql prints what a cell holds; a terminal would act on an escape sequence, and a bidi
override shows another order than what is there. Each such character is replaced by
its visible form ``\u{1b}``, as ``gateway.core.display`` does for all untrusted text.
"""

from __future__ import annotations

import re

import re2

# UTF-8 of: C0 but TAB and LF; DEL; C1 (U+0080-9F); U+061C; U+200E-F; U+2028-E; U+2066-9.
_CONTROL = (
    rb"[\x00-\x08\x0b-\x1f\x7f]"
    rb"|\xc2[\x80-\x9f]|\xd8\x9c|\xe2\x80[\x8e\x8f\xa8-\xae]|\xe2\x81[\xa6-\xa9]"
)
_SEARCH = re.compile(_CONTROL)

# The same over raw DataRow frames, where length fields hold control bytes too; one
# search over a whole block costs a small part of a walk through its cells. A text cell
# never holds a NUL, and in a row under 256 bytes each byte of a length follows a NUL, so
# a control byte after anything else is content (line 1; in a longer row it may be a
# length: a false alarm, which costs time only). What line 1 misses opens a cell whose
# length ends in a NUL: of 64 KB or more (line 3), or of 256, 512, … bytes, after a cell
# with content (line 4) or an empty one (line 5), told apart from the column count in a
# frame's own header (D 00 00 00 xx 00 yy) by the bytes before.
_LATIN1 = re2.Options()
_LATIN1.encoding = re2.Options.Encoding.LATIN1
_LATIN1.dot_nl = True
_FRAMED = re2.compile(
    rb"[^\x00][\x01-\x08\x0b-\x1f\x7f]"
    rb"|\xc2[\x80-\x9f]|\xd8\x9c|\xe2\x80[\x8e\x8f\xa8-\xae]|\xe2\x81[\xa6-\xa9]"
    rb"|[^\x00].\x00[\x01-\x08\x0b-\x1f\x7f]"
    rb"|[^\x00]\x00\x00[^\x00]\x00[\x01-\x08\x0b-\x1f\x7f]"
    rb"|\x00\x00\x00\x00\x00\x00[^\x00]\x00[\x01-\x08\x0b-\x1f\x7f]",
    _LATIN1,
)


def clean(data: bytes) -> bytes:
    """The text with every control and bidi character made visible; TAB and LF stay.

    Args:
        data: UTF-8; bytes that are not stay as they are.
    """
    return _SEARCH.sub(_visible, data) if _SEARCH.search(data) else data


def is_clean(data: bytes) -> bool:
    """Whether ``clean`` would change nothing."""
    return _SEARCH.search(data) is None


def may_hold_controls(block: bytes) -> bool:
    """Whether a block of whole DataRow frames could hold a cell that ``clean`` changes.

    False is certain; True asks for a look at each cell.
    """
    return _FRAMED.search(block) is not None


def _visible(match: re.Match[bytes]) -> bytes:
    return f"\\u{{{ord(match[0].decode()):x}}}".encode()
