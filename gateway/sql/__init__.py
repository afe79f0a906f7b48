"""SQL text → Actions and tainted columns.

libpg_query is the grammar and the gate; sqlglot is used for lineage only, and
its doubt masks. Pure: the catalog and the text are arguments.
"""
