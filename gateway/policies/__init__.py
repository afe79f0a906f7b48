"""The shipped policies: a safe start for reading, ETL, operations and break-glass.

``tollhouse init`` copies these files into a new deployment, where they are the
operator's to change. They name the roles ``reader``, ``etl``, ``operator`` and
``break-glass`` and the approval groups ``phi-approvers``, ``dba`` and ``security``.
"""

from __future__ import annotations

from importlib.resources import files


def shipped() -> dict[str, str]:
    """File name to text, as ``Policies.load`` takes it."""
    return {
        entry.name: entry.read_text(encoding="utf-8")
        for entry in files("gateway.policies").iterdir()
        if entry.name.endswith(".cedar")
    }
