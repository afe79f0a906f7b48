"""One tree of errors; each says what is wrong and what to do next.

Messages reach operators, clients and logs, so none may hold PHI or a secret:
name the place (a key, a path, a rule), never the value that was found there.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class ExitCode(IntEnum):
    """The gateway's own exit codes (docs/formats.md, "Exit codes").

    Codes between 64 and 78 follow BSD's sysexits.h; a child's own code passes
    through unless the gateway refused, and a refusal always wins.
    """

    OK = 0
    NOT_INTACT = 1
    UNREADABLE = 2
    BAD_CONFIG = 2
    BAD_COMMAND = 64
    TARGET_UNAVAILABLE = 69
    GATEWAY_FAULT = 70
    HELD = 75
    DENIED = 77


class TollhouseError(Exception):
    """Base of all errors that the gateway raises on purpose.

    Args:
        reason: what is wrong, one sentence, without PHI or secrets.
        advice: what the reader can do next; may be empty.
        rule: the rule or check that speaks, for programs; a stable identifier.
    """

    exit_code: ExitCode = ExitCode.GATEWAY_FAULT

    def __init__(self, reason: str, advice: str = "", rule: str = "gateway") -> None:
        super().__init__(reason)
        self.reason = reason
        self.advice = advice
        self.rule = rule

    def __str__(self) -> str:
        return f"{self.reason}. {self.advice}" if self.advice else self.reason


class BadCommand(TollhouseError):
    """The line cannot be read as a command of this target; nothing ran."""

    exit_code = ExitCode.BAD_COMMAND


class Denied(TollhouseError):
    """A rule, or the lack of one, keeps the line from running."""

    exit_code = ExitCode.DENIED


class TargetUnavailable(TollhouseError):
    """The target, or what the gateway needs to reach it, does not answer."""

    exit_code = ExitCode.TARGET_UNAVAILABLE


class GatewayFault(TollhouseError):
    """The gateway itself failed; the gate stays down."""


class RecorderFault(GatewayFault):
    """The record cannot be kept: nothing runs and the session ends."""


class GuardBroken(GatewayFault):
    """The child or the target said something that was not decided: the session ends."""


class LoginRefused(TollhouseError):
    """A token, a key or a certificate was not accepted."""

    exit_code = ExitCode.DENIED


class TokenRefused(LoginRefused):
    """An OIDC token failed verification or maps to no role."""


class CertificateRefused(LoginRefused):
    """An SSH certificate failed a check at the front door."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with the configuration or the policies.

    Attributes:
        place: file and key, as ``gateway.toml: target[0].host``.
        reason: what is wrong there.
        remedy: what to write instead.
    """

    place: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}. {self.remedy}"


class ConfigError(TollhouseError):
    """The configuration cannot be used; carries every fault, not the first."""

    exit_code = ExitCode.BAD_CONFIG

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__(f"{len(faults)} fault(s) in the configuration", rule="config")
        self.faults = faults

    def __str__(self) -> str:
        return "\n".join(str(fault) for fault in self.faults)
