r"""What was, and what might be, typed to get past the gate; every line names ``victim``.

An attack ends in one of four ways, by form:

- ``refused``: 64 or 77 with a reason; the server never hears of it.
- ``held``: 75; the same, until a person grants it.
- ``harmless``: it is one statement to PostgreSQL and to the gate, and runs as that.
- ``absent``: the form cannot carry it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

End = Literal["refused", "held", "harmless", "absent"]

FILE = "/tmp/tollhouse-victim"
"""What attacks try to write; nothing may ever lie there."""


@dataclass(frozen=True)
class Attack:
    """One line.

    Attributes:
        name: for the test's id.
        text: what is typed.
        single: how it ends as one command.
        script: how it ends within a script.
    """

    name: str
    text: str | bytes
    single: End = "refused"
    script: End = "refused"

    @property
    def raw(self) -> bytes:
        """The text as bytes."""
        return self.text.encode() if isinstance(self.text, str) else self.text


def _both(name: str, text: str | bytes, end: End) -> Attack:
    return Attack(name, text, end, end)


FOOLS_PSQL: tuple[Attack, ...] = (
    Attack("jinja comment", "SELECT 1 {# ; DROP TABLE victim; #};"),
    _both("line end in an E string", "SELECT E'a'\n'b\\'; DROP TABLE victim; --';", "harmless"),
    _both(
        "psql variable of its own",
        'SELECT "a""; DROP TABLE victim; --" FROM codes;\nSELECT (ARRAY[1])[1:LAST_ERROR_MESSAGE];',
        "held",
    ),
    Attack(
        "SET of the string rules",
        "SET standard_conforming_strings=off;\nSELECT 'a\\'||'; DROP TABLE victim; --';",
    ),
    Attack(
        "set_config of the string rules",
        "SELECT set_config('standard_conforming_strings','off',false);\n"
        "SELECT 'a\\'||'; DROP TABLE victim; --';",
    ),
    Attack("COPY data as SQL", "COPY codes FROM STDIN WHERE nosuch;\nDROP TABLE victim;"),
    Attack("backslash semicolon", "SELECT 1 \\; DROP TABLE victim;"),
)
"""Lines that drop the table when psql itself reads them: see the control."""

FOOLS_OTHERS: tuple[Attack, ...] = (
    _both("line kill of a terminal", "SELECT 'x -- \x15SELECT ''injected victim';", "harmless"),
    Attack("line kill and a quote", "SELECT 'x -- \x15SELECT 'injected victim';"),
    _both("5,000 bytes in one line", f"SELECT length('victim{'a' * 4990}');", "harmless"),
    Attack(
        "a temporary view that shadows",
        "CREATE TEMP VIEW codes AS SELECT ssn AS code FROM patients;\n"
        "SELECT code AS victim FROM codes;",
    ),
    Attack("NUL", b"SELECT 1;\x00DROP TABLE victim;", "absent"),
    Attack("NBSP", "SELECT\u00a01; DROP\u00a0TABLE\u00a0victim;"),
    Attack("ideographic space", "SELECT 1;\u3000DROP TABLE victim;"),
)
"""The rest of what was measured before: terminals, sqlglot, shadows, odd characters."""

KNOWN = FOOLS_PSQL + FOOLS_OTHERS

_META = (
    r"\! touch /tmp/tollhouse-victim",
    r"SELECT 'DROP TABLE victim' \gexec",
    r"SELECT 'DROP TABLE victim' AS q \gset",
    r"DROP TABLE victim \g",
    r"SELECT 'victim' \g /tmp/tollhouse-victim",
    r"SELECT 'victim' \g |touch /tmp/tollhouse-victim",
    r"DROP TABLE victim \bind \g",
    r"DROP TABLE victim \watch i=1 c=1",
    r"SELECT 1, 2, 'victim' \crosstabview",
    r"\copy victim TO '/tmp/tollhouse-victim'",
    r"\copy victim FROM PROGRAM 'touch /tmp/tollhouse-victim'",
    "\\o /tmp/tollhouse-victim\nSELECT 'victim';",
    r"\i /etc/passwd victim",
    "\\set q 'DROP TABLE victim'\n:q;",
    "\\if true\nDROP TABLE victim;\n\\endif",
    "\\c - postgres\nDROP TABLE victim;",
    "\\unrestrict victim\nDROP TABLE victim;",
    r"\d victim \! touch /tmp/tollhouse-victim",
    r"\d `touch /tmp/tollhouse-victim`",
    r"\echo `touch /tmp/tollhouse-victim`",
    r"\setenv PAGER victim",
    r"\pset pager victim",
    r"\lo_import /etc/passwd victim",
    r"\password victim",
    r"\ef victim",
    "\\startpipeline\nDROP TABLE victim;\n\\endpipeline",
    "SELECT 1 \\\\; DROP TABLE victim;",
)

_STATEMENTS = (
    "SELECT :victim;",
    "SELECT :'victim', :\"victim\";",
    ":LAST_ERROR_MESSAGE; DROP TABLE victim;",
    "COPY victim FROM STDIN;\n1\tx\n\\.\nDROP TABLE victim;",
    "COPY victim TO PROGRAM 'touch /tmp/tollhouse-victim';",
    "COPY victim TO '/tmp/tollhouse-victim';",
    "COPY victim FROM '/etc/passwd';",
    "COPY (DELETE FROM victim RETURNING *) TO STDOUT;",
    "SELECT pg_catalog.set_config('search_path', 'victim', false);",
    "SELECT * FROM set_config('search_path', 'victim', true);",
    "SELECT \"set_config\"('search_path', 'victim', false);",
    "SELECT U&\"set\\005fconfig\"('search_path', 'victim', false);",
    "UPDATE pg_settings SET setting = 'victim' WHERE name = 'search_path';",
    "SET search_path = victim, pg_catalog;",
    "SET LOCAL search_path TO victim;",
    "SET SESSION AUTHORIZATION victim;",
    "SET ROLE victim;",
    "RESET ALL; DROP TABLE victim;",
    "DISCARD ALL; DROP TABLE victim;",
    "ALTER ROLE CURRENT_USER SET search_path = victim;",
    "ALTER SYSTEM SET search_path = victim;",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE; SELECT count(*) FROM victim;",
    "BEGIN READ WRITE; SELECT count(*) FROM victim; COMMIT;",
    "SET transaction_read_only = off; SELECT count(*) FROM victim;",
    "BEGIN; DROP TABLE victim; ROLLBACK;",
    "CREATE SCHEMA victim CREATE VIEW codes AS SELECT ssn FROM patients;",
    "CREATE TEMP TABLE codes AS SELECT ssn AS code FROM patients; SELECT code victim FROM codes;",
    "SELECT ssn AS code INTO TEMP victim FROM patients;",
    "CREATE FUNCTION pg_temp.upper(text) RETURNS text RETURN 'victim';",
    "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; DROP TABLE victim; END;",
    "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS $$ DROP TABLE victim; $$;",
    "DO $$ BEGIN DROP TABLE victim; END $$;",
    "DO LANGUAGE plpgsql 'BEGIN EXECUTE ''DROP TABLE victim''; END';",
    "PREPARE p AS DELETE FROM victim; EXECUTE p;",
    "PREPARE TRANSACTION 'victim';",
    "COMMIT PREPARED 'victim';",
    "DECLARE c CURSOR FOR SELECT * FROM victim; FETCH ALL FROM c;",
    "CALL victim();",
    "LISTEN victim;",
    "NOTIFY victim, 'x';",
    "LOCK TABLE victim;",
    "TRUNCATE victim;",
    "DELETE FROM victim;",
    "WITH x AS (DELETE FROM victim RETURNING *) SELECT count(*) FROM x;",
    "EXPLAIN ANALYZE DELETE FROM victim;",
    "EXPLAIN ANALYZE CREATE TABLE victim2 AS SELECT 1;",
    "EXPLAIN EXECUTE victim;",
    "ALTER TABLE victim RENAME TO gone;",
    "GRANT ALL ON victim TO PUBLIC;",
    "COMMENT ON TABLE victim IS 'x';",
    "CREATE RULE r AS ON SELECT TO victim DO INSTEAD SELECT 1;",
    "REINDEX TABLE victim;",
    "VACUUM FULL victim;",
    "LOAD 'victim';",
    "SELECT pg_read_file('victim');",
    "SELECT lo_export(1, '/tmp/tollhouse-victim');",
    "SELECT query_to_xml('DROP TABLE victim', true, true, '');",
    "SELECT pg_terminate_backend(pid) AS victim FROM pg_stat_activity;",
    "SELECT nextval('victim_id_seq');",
    "SELECT dblink_exec('DROP TABLE victim');",
    "SELECT * FROM XMLTABLE('/' PASSING query_to_xml('DROP TABLE victim') COLUMNS a text);",
)

_LEXICAL = (
    Attack("a comment that nests", "SELECT 1 /* /* */ */; DROP TABLE victim;"),
    Attack("a comment that stays open", "/* /* */ SELECT 1; DROP TABLE victim; --"),
    Attack("a comment that closes once more", "SELECT 1 /* */ */; DROP TABLE victim;"),
    Attack("a comment of another product", "/*! DROP TABLE victim */", script="absent"),
    Attack("a comment that ends at CR", "SELECT 1 --\r; DROP TABLE victim;"),
    Attack("a comment that ends at form feed", "SELECT 1 --\f; DROP TABLE victim;", "harmless"),
    Attack("a comment with U+2028", "SELECT 1 --\u2028; DROP TABLE victim;", "harmless"),
    Attack("CR for spaces", "DROP\rTABLE\rvictim\r;"),
    Attack("a dollar in a name", "SELECT a$$; DROP TABLE victim; $$;"),
    Attack("a dollar after a number", "SELECT 1$$; DROP TABLE victim; $$;"),
    Attack("a dollar quote within another", "SELECT $a$ $$ $a$; DROP TABLE victim; SELECT $$a$$;"),
    _both("a dollar quote", "SELECT $$'; DROP TABLE victim; --$$;", "harmless"),
    _both("a dollar tag beyond ASCII", "SELECT $é$; DROP TABLE victim; $é$;", "harmless"),
    Attack("an escape that is none", "SELECT '\\'; DROP TABLE victim; --';"),
    Attack("an escaped backslash", "SELECT E'\\\\'; DROP TABLE victim; --';"),
    _both("an escaped quote", "SELECT E'\\'; DROP TABLE victim; --';", "harmless"),
    _both("a Unicode escape", "SELECT U&'\\0027; DROP TABLE victim; --';", "harmless"),
    _both(
        "a Unicode escape of one's own",
        "SELECT U&'!0027; DROP TABLE victim; --' UESCAPE '!';",
        "harmless",
    ),
    Attack("a Unicode escape that is a quote", "SELECT U&'a' UESCAPE ''''; DROP TABLE victim;"),
    Attack("a half surrogate", "SELECT U&'\\D800; DROP TABLE victim; --';"),
    _both("a literal that goes on", "SELECT 'a'\n  '; DROP TABLE victim; --';", "harmless"),
    Attack("a literal after a comment", "SELECT 'a' -- x\n'; DROP TABLE victim; --';"),
    Attack("a literal that does not", "SELECT 'a'/* x */\n'; DROP TABLE victim; --';"),
    Attack("literals side by side", "SELECT n'a' 'b; DROP TABLE victim; --';"),
    _both("a name that looks like SQL", 'SELECT 1 "; DROP TABLE victim; --";', "harmless"),
    Attack("a full-width semicolon", "SELECT 1\uff1b DROP TABLE victim;"),
    Attack("a zero-width space", "SELECT 1;\u200bDROP TABLE victim;"),
    Attack("a byte order mark", "\ufeffSELECT 1; DROP TABLE victim;"),
    Attack("bidi in a comment", "SELECT 1 /* \u202e\u2066 */; DROP TABLE victim;"),
    _both("bidi in a literal", "SELECT 'victim \u202e;mitciv ELBAT PORD';", "harmless"),
    _both("escape sequences", "SELECT 'victim \x1b]0;x\x07\x1b[2J\u009b2J';", "harmless"),
    Attack("not UTF-8", b"SELECT '\xff'; DROP TABLE victim;"),
    Attack("an overlong semicolon", b"SELECT 1\xc0\xbb DROP TABLE victim;"),
    Attack("a surrogate in UTF-8", b"SELECT '\xed\xa0\x80'; DROP TABLE victim;"),
    Attack("cut in a character", b"SELECT 1; DROP TABLE victim; -- \xe2\x82"),
    Attack("NUL in a literal", b"SELECT 'a\x00'; DROP TABLE victim;", "absent"),
    Attack("a 100 KB line", f"SELECT '{'a' * 100_000}'; DROP TABLE victim;"),
    Attack("a 1 MB line", f"SELECT '{'a' * 1_000_000}'; DROP TABLE victim;", "absent"),
    Attack("nested brackets", f"SELECT {'(' * 7000}1{')' * 7000}; DROP TABLE victim;"),
    Attack("nested comments", f"SELECT {'/*' * 3000}{'*/' * 3000} 1; DROP TABLE victim;"),
    Attack("a chain of operators", f"SELECT {'1+' * 7000}1 AS victim;"),
    Attack("many statements", "SELECT 1;" * 1700 + "DROP TABLE victim;"),
    Attack("surplus semicolons", ";;;; DROP TABLE victim ;;;;"),
    _both("a forged ticket", "SELECT 'T0123456789abcdef-victim';", "harmless"),
    _both("a forged sentinel", "SELECT 'S0123456789abcdef-victim';", "harmless"),
    Attack("a held delete", "DELETE FROM victim WHERE id > 0;", "held", "held"),
    # Its rows are in no command tag, so no rule that limits rows can be asked.
    Attack(
        "a delete in a CTE",
        "WITH x AS (DELETE FROM victim WHERE id > 0 RETURNING id) SELECT count(*) FROM x;",
    ),
)

OWN: tuple[Attack, ...] = (
    *(Attack(f"meta {text.split()[0]} {n}", text) for n, text in enumerate(_META)),
    *(Attack(f"{text[:32]} {n}", text) for n, text in enumerate(_STATEMENTS)),
    *_LEXICAL,
)
"""Attacks of our own."""

ARGV: tuple[str, ...] = (
    "psql -h evil.example -c 'select 1'",
    "psql -hevil.example -c 'select 1'",
    "psql --host=evil.example -c 'select 1'",
    "psql --host evil.example -c 'select 1'",
    'psql "-h" evil.example -c "select 1"',
    "psql '-''h' evil.example -c 'select 1'",
    "psql \\-h evil.example -c 'select 1'",
    "psql -$'h' evil.example -c 'select 1'",
    "psql -p 1 -U postgres -d victim -c 'select 1'",
    "psql victim",
    "psql -c 'select 1' victim postgres",
    "psql 'postgresql://evil.example/victim' -c 'select 1'",
    "psql 'host=evil.example dbname=victim' -c 'select 1'",
    "psql -o /tmp/tollhouse-victim -c 'select 1'",
    "psql -o '|touch /tmp/tollhouse-victim' -c 'select 1'",
    "psql -L /tmp/tollhouse-victim -c 'select 1'",
    "psql --log-file=/tmp/tollhouse-victim -c 'select 1'",
    "psql --output=/tmp/tollhouse-victim -c 'select 1'",
    "psql --ou=/tmp/tollhouse-victim -c 'select 1'",
    "psql -Atqo/tmp/tollhouse-victim -c 'select 1'",
    "psql -xXL/tmp/tollhouse-victim -c 'select 1'",
    "psql -Atc 'select 1' -o/tmp/tollhouse-victim",
    "psql -c '\\! touch /tmp/tollhouse-victim'",
    "psql -c 'select 1' -c '\\copy victim to /tmp/tollhouse-victim'",
    "psql -c 'select 1 \\; drop table victim'",
    "psql -v x='drop table victim' -c 'select :x'",
    "psql --set=AUTOCOMMIT=off -c 'select 1'",
    "psql --variable=PROMPT1=victim -c 'select 1'",
    "psql -vFETCH_COUNT=1 -c 'select 1'",
    "psql -P pager='touch /tmp/tollhouse-victim' -c 'select 1'",
    "psql -P pager=always -c 'select 1'",
    "psql --pset=format=html -c 'select 1'",
    "psql -Pnull='\x1b]0;victim\x07' -c 'select 1'",
    "psql -F '\x07' -c 'select 1'",
    "psql -f /etc/passwd",
    "psql --file=/etc/passwd",
    "psql -f - -f /etc/passwd",
    "psql -f - -c 'drop table victim'",
    "psql --comm='drop table victim'",
    "psql -- -c 'drop table victim'",
    "psql -c 'select 1' -- -h evil.example",
    "psql - -c 'select 1'",
    "psql --csv=yes -c 'select 1'",
    "psql --no-psqlrc=x -c 'select 1'",
    "psql -l",
    "psql -1 -c 'select 1'",
    "psql -sS -c 'select 1'",
    "psql -aeEb -c 'select 1'",
    "psql -HT victim -c 'select 1'",
    "psql -W -c 'select 1'",
    "psql --help=variables",
    "psql -V",
    "psql -c",
    "psql -c ''",
    "psql -c 'select 1",
    "psql -c select 1; drop table victim",
    "psql -c 'select 1'; touch /tmp/tollhouse-victim",
    "psql -c 'select 1' > /tmp/tollhouse-victim",
    "psql -c 'select 1' | tee /tmp/tollhouse-victim",
    "psql -c 'select 1' && touch /tmp/tollhouse-victim",
    "psql -c `touch /tmp/tollhouse-victim`",
    "psql -c $(touch /tmp/tollhouse-victim)",
    "psql -c 'select 1'\n-h evil.example",
    "  psql -h evil.example -c 'select 1'",
    "psql\t-h evil.example -c 'select 1'",
    "PSQL -h evil.example -c 'drop table victim'",
    "/usr/bin/psql -c 'drop table victim'",
    "env PGHOST=evil.example psql -c 'drop table victim'",
    "PGHOST=evil.example psql -c 'drop table victim'",
    "bash -c 'touch /tmp/tollhouse-victim'",
    "psql -c 'drop table victim'",
    "psql -Atc 'select 1' -c 'drop table victim'",
    "psql -qXc 'select 1; drop table victim'",
    "psql --csv --command='drop table victim'",
    "psql -c '-- drop table victim'",
    "psql -c '--help'",
)
"""Exec strings that are all refused."""
