"""The demo: an embedded PostgreSQL with synthetic PHI, a local issuer and a gateway.

Real programs throughout: a real server and psql (from the extra ``demo``), real
OpenID Connect tokens over HTTP, the gateway as ``tollhouse serve`` runs it, and
the stock ``ssh``, ``ssh-keygen`` and ``asciinema``. Only the patients are made up.
"""
