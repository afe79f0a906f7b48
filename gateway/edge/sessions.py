"""From a channel to a session: what was asked for, and who serves it.

A target's channel gets a recording, a session and a runner; ``gateway@`` is the
desk. What is not built is refused with 64 and a reason.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from gateway.config import GatewayConfig, Target
from gateway.connectors.psql.argv import parse_exec
from gateway.core import notice
from gateway.core.events import ClientGone, Event, Line, LineArrived, Unjudgeable
from gateway.core.session import Session
from gateway.edge.channel import Channel
from gateway.edge.child import WindowSize
from gateway.edge.clerk import Clerk
from gateway.edge.desk import Desk
from gateway.edge.door import Door
from gateway.edge.execution import Executions
from gateway.edge.internal import internal_fault
from gateway.edge.judging import Judges
from gateway.edge.ledger import Ledger
from gateway.edge.places import Places
from gateway.edge.prompt import Prompt
from gateway.edge.prompting import PromptExecution, PromptSession, ScreenOutlet
from gateway.edge.queue import Queue
from gateway.edge.recording import Recording, ScreenRecording
from gateway.edge.runner import Runner
from gateway.edge.view import View, bounded
from gateway.errors import BadCommand, TollhouseError

MAX_REASON_CHARS = 500

R = TypeVar("R", bound=Recording)

_NO_WINDOW = WindowSize(80, 24)  # of the cast of a command (docs/formats.md, "Cast")


@dataclass(frozen=True, slots=True)
class Options:
    """What a client asks of the gateway itself; only the environment may say it.

    Attributes:
        as_json: ``TOLLHOUSE_JSON=1``: stderr holds JSON lines only.
        waits: ``TOLLHOUSE_WAIT=1``: a held line waits for its ticket.
        why: ``TOLLHOUSE_REASON``: the requester's words, shown as claimed.
    """

    as_json: bool
    waits: bool
    why: str


def options_of(channel: Channel) -> Options:
    """Read the options from a channel's environment; anything else in it is ignored."""
    found = channel.environment
    return Options(
        as_json=found.get("TOLLHOUSE_JSON") == "1",
        waits=found.get("TOLLHOUSE_WAIT") == "1",
        why=found.get("TOLLHOUSE_REASON", "")[:MAX_REASON_CHARS],
    )


class Sessions:
    """Serves channels.

    Args:
        config: targets and limits.
        door: says whether a certificate still holds.
        judges, executions, ledger, desk: what sessions need.
        casts_dir: where recordings go.
        digest_key: keys the digests of command bytes in the record.
    """

    def __init__(
        self,
        config: GatewayConfig,
        *,
        door: Door,
        judges: Judges,
        executions: Executions,
        ledger: Ledger,
        desk: Desk,
        casts_dir: Path,
        digest_key: bytes,
    ) -> None:
        self._config = config
        self._door = door
        self._judges = judges
        self._executions = executions
        self._ledger = ledger
        self._desk = desk
        self._casts_dir = casts_dir
        self._digest_key = digest_key
        self._places = Places(config.limits.sessions)

    async def serve(self, channel: Channel) -> None:
        """Serve one channel to its end; whatever fails is told and ends in a closed gate."""
        options = options_of(channel)
        try:
            await self._serve(channel, options)
        except TollhouseError as error:
            await channel.send(notice.refusal(error, None, as_json=options.as_json), stderr=True)
            channel.exit(error.exit_code)
        except Exception as error:  # its text may hold PHI: only its kind is told
            fault = internal_fault(error, "the channel")
            await channel.send(notice.refusal(fault, None, as_json=options.as_json), stderr=True)
            channel.exit(fault.exit_code)

    async def _serve(self, channel: Channel, options: Options) -> None:
        if channel.subsystem is not None:
            # Clients such as sftp show what comes on stderr as it is: one line, no advice below.
            raise BadCommand(
                "Subsystems such as sftp are not available here; send a command, or a script on "
                "standard input",
                rule="channel.subsystem",
            )
        await self._door.still_valid(channel.admission)
        for what in channel.refused_requests:
            told = f"{what} is refused: Tollhouse carries commands only, keys stay home"
            await channel.send(notice.remark(told, as_json=options.as_json), stderr=True)
        if channel.admission.target == "gateway":
            channel.ignore_input()
            await _while_there(channel, self._desk.serve(channel, options.as_json, options.why))
            return
        if channel.admission.target == "approvals":
            await self._queue(channel)
            return
        target = self._config.find_target(channel.admission.target)
        if target is None:
            raise BadCommand(
                f"{channel.admission.target} cannot be reached in this way",
                "`ssh gateway@… targets` lists what your certificate opens",
                rule="channel.target",
            )
        with self._places.taken(channel.admission.identity.id):
            if channel.command is None and channel.terminal is not None:
                await self._prompt(channel, target, options)
            else:
                await self._run(channel, target, options)

    async def _queue(self, channel: Channel) -> None:
        if channel.command is not None or channel.terminal is None:
            raise BadCommand(
                "The queue needs a terminal and takes no command",
                "ssh -t approvals@…, or for scripts: ssh gateway@… tickets",
                rule="queue.terminal",
            )
        with self._places.taken(channel.admission.identity.id):
            size = bounded(*channel.window)
            recording = await self._open(ScreenRecording, channel, {"form": "queue"}, size)
            view = View(channel, recording, size)
            queue = Queue(self._desk, self._door, channel.admission, view, channel.terminal)
            channel.take_keys(queue.typed, lambda: queue.resized(bounded(*channel.window)))
            reason = "left"
            try:
                await _while_there(channel, queue.run())
            except BaseException as error:
                reason = getattr(error, "rule", "client gone")
                raise
            finally:
                await recording.close(reason)
            channel.exit(0)

    def _facts(self, target: Target, form: str) -> dict[str, object]:
        return {
            "form": form,
            "sandbox": str(self._executions.level),
            "reader": target.reader.user,
            "writer": target.writer.user if target.writer else None,
        }

    async def _open(
        self, kind: type[R], channel: Channel, facts: Mapping[str, object], size: WindowSize
    ) -> R:
        return await kind.open(
            session=f"s-{self._ledger.now():%Y%m%d}-{secrets.token_hex(8)}",
            ledger=self._ledger,
            casts_dir=self._casts_dir,
            admission=channel.admission,
            facts=facts,
            digest_key=self._digest_key,
            cols=size.cols,
            rows=size.rows,
        )

    def _clerk(
        self,
        channel: Channel,
        options: Options,
        session: str,
        pinned: Callable[[], str | None] = lambda: None,
    ) -> Clerk:
        return Clerk(
            self._judges,
            self._ledger,
            channel.admission,
            session,
            why=options.why,
            answer_s=int(self._config.approval.pending_ttl.total_seconds()),
            pinned=pinned,
        )

    async def _run(self, channel: Channel, target: Target, options: Options) -> None:
        form = "single" if channel.command is not None else "script"
        recording = await self._open(Recording, channel, self._facts(target, form), _NO_WINDOW)
        runner = Runner(
            Session(waits=options.waits),
            clerk=self._clerk(channel, options, recording.session),
            execution=self._executions.begin(target, recording),
            record=recording,
            outlet=channel,
            as_json=options.as_json,
        )
        watch = asyncio.get_running_loop().create_task(_watch(channel, runner))
        try:
            runner.post(await self._line(channel))
            await runner.run()
        finally:
            watch.cancel()

    async def _prompt(self, channel: Channel, target: Target, options: Options) -> None:
        names = await self._judges.readable(target.name, channel.admission.identity)
        size = bounded(*channel.window)
        facts = self._facts(target, "prompt")
        recording = await self._open(ScreenRecording, channel, facts, size)
        view = View(channel, recording, size)
        execution = PromptExecution(self._executions, target, recording, view)
        runner = Runner(
            Session(waits=options.waits, one_line=False),
            clerk=self._clerk(channel, options, recording.session, lambda: execution.pinned),
            execution=execution,
            record=recording,
            outlet=ScreenOutlet(view, channel.exit),
            as_json=False,
        )
        prompt = Prompt(
            target.name,
            term=channel.terminal or "",
            size=lambda: view.size,
            write=view.write,
            names=names,
        )
        session = PromptSession(prompt, runner, execution, view)
        channel.take_keys(session.typed, lambda: session.resized(channel.window))
        watch = asyncio.get_running_loop().create_task(_watch(channel, runner))
        try:
            await session.serve()
        finally:
            watch.cancel()

    async def _line(self, channel: Channel) -> Event:
        """The first event of a session: the line, or why there is none."""
        try:
            if channel.command is None:
                return LineArrived(Line(text=await self._script(channel), form="script"))
            line = line_of(channel.command)
            if line.form == "script":
                line = replace(line, text=await self._script(channel))
            else:
                channel.ignore_input()
        except BadCommand as error:
            raw = (channel.command or "").encode("utf-8", "surrogateescape")
            return Unjudgeable(Line(text=raw, form="single"), error)
        return LineArrived(line)

    async def _script(self, channel: Channel) -> bytes:
        limit = self._config.limits.script_bytes
        text = await channel.read_all(limit)
        if text is None:
            raise BadCommand(
                f"The script is larger than {limit} bytes",
                "Split it, or have [limits] script_bytes raised",
                rule="limits.script",
            )
        return text


def line_of(command: str) -> Line:
    """The line that an exec string means; a script's text is still to come from stdin.

    Raises:
        BadCommand: psql's flags cannot be read, or hold one that is not carried.
    """
    parsed = parse_exec(command)
    flags = parsed.flags
    return Line(
        text=b"\n".join(parsed.texts),
        form="script" if parsed.script_from_stdin else "single",
        arguments=flags.arguments(),
        parts=parsed.texts if len(parsed.texts) > 1 else (),
        stop_on_error=flags.on_error_stop,
        quiet=flags.quiet,
    )


async def _while_there(channel: Channel, work: Coroutine[Any, Any, object]) -> None:
    """Do something for a client until it leaves; then nobody waits for it any more."""
    task = asyncio.ensure_future(work)
    left = asyncio.ensure_future(channel.gone.wait())
    try:
        await asyncio.wait({task, left}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        task.cancel()
        left.cancel()
        await asyncio.gather(task, left, return_exceptions=True)


async def _watch(channel: Channel, runner: Runner) -> None:
    await channel.gone.wait()
    runner.post(ClientGone())
