"""Places: the last one, and never all of them for one identity."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from gateway.edge.places import Places
from gateway.errors import GatewayFault


def test_one_identity_never_takes_all_places() -> None:
    places = Places(4)
    with ExitStack() as greedy:
        greedy.enter_context(places.taken("i|agent"))
        greedy.enter_context(places.taken("i|agent"))
        with pytest.raises(GatewayFault) as refused:
            greedy.enter_context(places.taken("i|agent"))
        assert refused.value.rule == "limits.identity-sessions"
        with places.taken("i|etl"):
            pass
    with places.taken("i|agent"):  # what ended counts no more
        pass


def test_the_last_place_is_the_last() -> None:
    places = Places(2)
    with places.taken("i|a"), places.taken("i|b"):
        with pytest.raises(GatewayFault) as refused, places.taken("i|c"):
            pass
        assert refused.value.rule == "limits.sessions"


def test_a_session_that_fails_gives_its_place_back() -> None:
    places = Places(1)
    for _ in range(2):
        with pytest.raises(RuntimeError), places.taken("i|a"):
            raise RuntimeError
