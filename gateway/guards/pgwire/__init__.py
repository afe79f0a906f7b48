"""The PostgreSQL wire guard: psql on one side, the real server on the other.

::

    psql ── select 'T…'; ──▶ guard.Guard ── the decided bytes ──▶ server
         ◀─ masked rows ──┤   rows    cells of tainted columns become tags
         ◀─ the nonce ────┘   copyout the same for COPY TO STDOUT
                              notices errors that may quote PHI lose their text

``login`` speaks for the gateway before psql is let in; ``codec`` frames messages for
all of them. Protocol: PostgreSQL documentation, chapter "Frontend/Backend Protocol",
version 3.0.
"""
