"""How long one example takes says nothing on a busy machine."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("recorder", deadline=None)
settings.load_profile("recorder")
