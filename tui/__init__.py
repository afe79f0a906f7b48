"""The approver's queue: a terminal screen over the port ``Tickets``.

::

    app ─── held (the list) ── paper (the ticket, laid out) ── vote (the question)
     │
     └── tickets.Tickets ──┬─ far   from the approver's machine: stock ``ssh gateway@… --json``
                           └─ near  inside the gateway: a socket made for one session (framing)

Nothing here decides: the gateway checks each vote again, whatever this screen says.
"""
