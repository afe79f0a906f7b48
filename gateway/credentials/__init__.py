"""Where the credential of a target comes from, by (target, login).

Only the edge asks, just before it logs in upstream; no child and no client ever sees
the answer. A source is named in the configuration, the secret itself never is.
"""

from __future__ import annotations

from gateway.credentials.source import (
    EnvironmentSource,
    FileSource,
    NoPassword,
    PasswordSource,
    Secret,
    read_password,
)

__all__ = [
    "EnvironmentSource",
    "FileSource",
    "NoPassword",
    "PasswordSource",
    "Secret",
    "read_password",
]
