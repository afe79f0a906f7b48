"""What the real psql draws, in each of its formats, through the pattern net alone."""

from __future__ import annotations

import subprocess

import pytest

from gateway.core.mask import StreamMasker, join
from tests.servers import Server

ROWS = """
  select 17 as id, '123-45-6789' as a, 'ann@example.com' as b, '(212) 555-0143' as c,
         '4111 1111 1111 1111' as d, 'ok' as status
  union all select 18, '219-09-9999', 'bob.lee@mail.example.org', '+1 212 555 0199',
         '378282246310005', 'open'
"""
SECRETS = (
    "123-45-6789", "219-09-9999", "ann@example.com", "bob.lee", "555-0143", "555 0199",
    "4111 1111", "378282246310005",
)  # fmt: skip
FORMATS = [
    (), ("--csv",), ("-A",), ("-A", "-t"), ("-x",), ("-H",), ("-P", "format=asciidoc"),
    ("-P", "format=latex"), ("-P", "format=troff-ms"), ("-P", "linestyle=unicode"),
    ("-P", "border=2", "-P", "linestyle=unicode"), ("-A", "-F", "\t"), ("-A", "-F", ":"),
]  # fmt: skip


@pytest.mark.parametrize("flags", FORMATS, ids=" ".join)
def test_no_format_of_psql_hides_an_identifier(pg16: Server, flags: tuple[str, ...]) -> None:
    server = ["-h", str(pg16.socket_dir), "-p", str(pg16.port), "-U", "postgres"]
    drawn = subprocess.run(
        [str(pg16.psql), "-X", "-P", "pager=off", *flags, *server],
        input=ROWS.encode() + b";",
        stdout=subprocess.PIPE,
        check=True,
        env={"LANG": "C.UTF-8"},
    ).stdout
    assert drawn.count(b"123-45-6789") == 1
    for step in (1, 7, 4096):
        masker = StreamMasker()
        pieces = [masker.feed(drawn[i : i + step]) for i in range(0, len(drawn), step)]
        shown = join([*pieces, masker.finish()]).data.decode()
        assert not [secret for secret in SECRETS if secret in shown]
        assert "open" in shown
        assert masker.counts == {"ssn": 2, "email": 2, "phone": 2, "card": 2}
