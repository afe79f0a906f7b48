"""Is this text ready to be sent? The prompt's question at each Enter.

The answer is psql's: a statement is complete at a ``;`` outside quotes, comments
and parentheses. It decides nothing but whether another line is asked for.
"""

from __future__ import annotations

from gateway.sql.lexing import tokens


def is_complete(text: bytes) -> bool:
    """Whether psql would send what was typed so far, or there is nothing to send.

    A line that begins with a backslash is complete as well: it is refused by name.

    Args:
        text: all lines of the statement so far, UTF-8.
    """
    stripped = text.strip()
    if not stripped or stripped.startswith(b"\\"):
        return True
    depth, ended = 0, False
    for token in tokens(text):
        if not token.closed:
            return False
        if token.kind in ("space", "comment"):
            continue
        shown = text[token.start : token.end]
        depth += (shown == b"(") - (shown == b")" and depth > 0)
        ended = shown == b";" and depth == 0
    return ended
