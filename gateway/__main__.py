"""``python -m gateway`` is ``tollhouse``."""

from gateway.cli import main

main()
