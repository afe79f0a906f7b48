"""The README's picture is made by a command and loads nothing."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from tests.tui.picture import picture


async def test_the_picture() -> None:
    svg = await picture()
    assert ET.fromstring(svg).tag.endswith("svg")
    assert "T-42" in svg
    assert "BEWARE" not in svg
    assert svg.replace("http://www.w3.org/2000/svg", "").count("http") == 0
    assert await picture() == svg
