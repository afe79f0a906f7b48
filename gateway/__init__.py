"""Tollhouse: the one way through the house, drawn once.

A line comes in as bytes, is decided before anything runs, and what comes back
leaves as ``Masked`` or not at all::

     ssh client
        │  bytes
     edge/ssh, edge/door ── a certificate that this gateway issued; session channels only
        │  edge/channel
     edge/sessions ──────── one channel, one session, one recording
        │  Line
     edge/runner ────────── the one loop: feeds core/session events, performs its effects
        │                   ┌──────────────── core/session (a table) ─────────────────┐
        │  Judge            │ ready → judging → (asking → waiting) → preparing →      │
        │                   │ committing → running → closed                           │
     edge/judging           └─────────────────────────────────────────────────────────┘
        ├─ edge/workers ─── sql/judge in a killable process: grammar, actions, functions, lineage
        │                   → Parsed: units of exact bytes, Actions, masking plans
        └─ core/policy ──── Cedar over the Actions → Verdict: allow | deny | ask
        │  SeekGrant
     edge/clerk ─────────── core/approval and store: ticket, votes → Grant
        │  Commit
     edge/recording ─────── recorder/writer and store: cast, then leaf and spent grant, durable
        │  Run(Grant)
     edge/execution ─────── edge/lane: a psql of edge/child, sandboxed, fed tickets instead of SQL
        ⇅                   edge/pgguard: guards/pgwire replaces the ticket by the decided
        │                   bytes, holds the credential, masks tainted cells on the way back
     core/mask ──────────── patterns over what psql drew → Masked
        ├─ recorder ─────── first the cast
        └─ client ───────── then the user

At a terminal (``ssh -t``) edge/prompting takes the runner's place at the front: edge/prompt is
the editor, lanes are kept for each login, and all that is drawn goes through edge/view, which
is core/screen: cells masked where they stand, recorded first and then sent. Approvers get
edge/queue, which runs tui/ on a socket of their session's.

Beside it: edge/enrol (token → certificate), edge/desk (``ssh gateway@…``), edge/ledger
(checkpoints). Who may import whom is checked: ``recorder`` nothing of ours, ``core`` and
``sql`` no I/O, ``connectors`` and ``guards`` above them, then ``store``, ``edge``, ``cli``.
"""
