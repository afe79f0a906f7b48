"""The screen: the path of a PTY's output to the client and the recording.

What leaves is what a reader would see, masked, and nothing else::

     bytes
     tokens ──── text, and the controls on a closed list; the rest is dropped
       │
     terminal ── plain lines ─────────────── lines: masked as text, scrollback stays native
       └──────── anything that moves ─ screen: cells (pyte, mended)
                                       view:   findings over logical lines, hidden in the cells
                                       painter: what changed, as moves and text
     controls ── all that may leave; ``core.mask.painted`` checks it again → ``Masked``
"""
