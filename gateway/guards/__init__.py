"""Guards: what really goes to a target, and what comes back, seen byte by byte.

A guard stands between the child and the target, and gives a second verdict: only
what was decided passes, and tainted cells are masked on the way back. Each guard is
sans-I/O: bytes in, outputs out; ``gateway.edge`` moves the bytes and holds the
upstream credential, which no child ever sees.
"""
