"""The pure core: it decides and never does I/O.

No asyncio, socket, file, clock or randomness in this room: time, keys and ids
are arguments. What is decided here is performed by ``gateway.edge``.
"""
