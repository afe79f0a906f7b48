"""All I/O: sockets, processes, clocks, keys. It performs and never decides."""
