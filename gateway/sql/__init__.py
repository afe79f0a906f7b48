"""SQL text → Actions and tainted columns.

libpg_query is the grammar, the gate and what lineage is read over; sqlglot is a second
opinion on lineage, which can only mask more (docs/decisions/0005-lineage-on-libpg-query.md).
Pure: the catalog and the text are arguments.
"""
