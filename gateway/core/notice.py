"""What the gateway itself says to a client: in words for people, as JSON lines for programs.

Everything goes through ``display`` and the masker, so a notice is as safe as
the output beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gateway.core.approval import Ticket, missing
from gateway.core.display import show
from gateway.core.events import Judgement
from gateway.core.mask import Masked, masked_message
from gateway.core.policy import verdict_json
from gateway.core.verdict import Verdict
from gateway.errors import Denied, ExitCode, TollhouseError

PREFIX = "tollhouse: "


def json_line(fields: Mapping[str, Any]) -> Masked:
    """One line of JSON on stderr."""
    return masked_message(json.dumps(fields, ensure_ascii=False) + "\n")


def words(*lines: str) -> Masked:
    """Lines for people; the first carries the gateway's name, the rest are indented."""
    first, *rest = [show(line) for line in lines if line]
    return masked_message("\n".join([PREFIX + first, *(f"  {line}" for line in rest)]) + "\n")


def remark(text: str, *, as_json: bool) -> Masked:
    """Something to know that changes no exit code."""
    return json_line({"type": "notice", "text": show(text)}) if as_json else words(text)


def stderr_lines(data: Masked) -> Masked:
    """Masked stderr of the child as JSON lines, one for each line of it."""
    lines = data.data.decode().splitlines()
    texts = [json.dumps({"type": "stderr", "text": line}, ensure_ascii=False) for line in lines]
    return masked_message("".join(text + "\n" for text in texts))


def refusal(error: TollhouseError, judgement: Judgement | None, *, as_json: bool) -> Masked:
    """Why nothing ran, or why the session ended: rule, reason, what to do next."""
    if as_json:
        fields: dict[str, Any] = {"type": "refusal", "exit_code": int(error.exit_code)}
        fields |= _judged(judgement, error)
        return json_line(fields | {"advice": error.advice})
    what = "denied" if error.exit_code is ExitCode.DENIED else _WORDS.get(error.exit_code, "error")
    advice = f"What to do: {error.advice}" if error.advice else ""
    return words(f"{what} [{error.rule}]: {error.reason}", advice)


def held(judgement: Judgement, ticket: Ticket, *, waits: bool, as_json: bool) -> Masked:
    """The ticket of a held line and how to go on."""
    if as_json:
        fields: dict[str, Any] = {"type": "held", "exit_code": int(ExitCode.HELD)}
        fields |= _judged(judgement, None)
        fields |= {
            "ticket": ticket.id,
            "digest": ticket.digest,
            "expires_at": ticket.answer_by.isoformat(),
            "waits": waits,
            "wait_with": f"ssh gateway@… wait {ticket.id}",
        }
        return json_line(fields)
    needs = "; ".join(f"{count} of {' or '.join(groups)}" for groups, count in missing(ticket))
    go_on = (
        "Waiting for the decision; Ctrl-C gives up and keeps the ticket."
        if waits
        else "Send the same command again once it is granted; "
        f"to wait for that: ssh gateway@… wait {ticket.id}"
    )
    return words(
        f"held [{ticket.rule}]: {ticket.reason}",
        f"Ticket {ticket.id} needs approval by {needs or 'nobody more'}, "
        f"until {ticket.answer_by:%Y-%m-%d %H:%M} UTC.",
        go_on,
    )


def masked_columns(judgement: Judgement) -> list[dict[str, Any]]:
    """The output columns that would be hidden, with the reason; of all statements, in order."""
    found: list[dict[str, Any]] = []
    for unit in judgement.parsed.units:
        for result in unit.results:
            if result.columns is None and result.returns != "tag":
                found.append({"index": None, "name": "*", "why": "the columns are not known"})
            found += [
                {"index": index, "name": column.name, "why": column.why}
                for index, column in enumerate(result.columns or ())
                if column.masked
            ]
    return found


def _judged(judgement: Judgement | None, error: TollhouseError | None) -> dict[str, Any]:
    """The verdict's fields (docs/formats.md, "Verdict"), also where there is none."""
    if judgement is not None:
        columns = masked_columns(judgement)
        found = verdict_json(judgement.verdict, None, judgement.parsed.actions, columns)
        if error is not None and not isinstance(error, Denied):
            found |= {"rule": error.rule, "reason": error.reason}
        return found
    assert error is not None
    verdict = Verdict("deny", error.rule, error.reason, error.advice)
    return verdict_json(verdict, None, (), [])


_WORDS = {
    ExitCode.BAD_COMMAND: "cannot read this command",
    ExitCode.TARGET_UNAVAILABLE: "target unavailable",
    ExitCode.GATEWAY_FAULT: "gateway error",
}
