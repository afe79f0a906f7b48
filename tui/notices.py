"""Screens that only say something: the help, and the alarm that cannot be overlooked."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

HELP = """\
What waits here was stopped by a rule that asks for a person; nothing of it has run.

  ↑ ↓  j k        another ticket          PgUp PgDn  a page of them
  Enter           the ticket alone, whole; Enter or Esc comes back
  Space  b        the ticket's text further down, back up
  a               approve: it may run once, exactly as shown
  d               deny: it never runs under this ticket
  h               history: ended tickets too, and back
  /               list only what holds these words; Esc ends that
  r               ask the gateway now
  t               light or dark
  q               quit; what is held stays held

Both votes need a reason and Enter twice; to approve, the end of the text must have \
been on the screen. No vote is taken while the gateway cannot be reached.

! marks commands with letters that pass for others, hidden characters or long gaps; \
these stand out in the text. Values that may be PHI are shown as [PHI]; the vote is \
on the exact bytes that were sent, by their digest."""


class Notice(ModalScreen[None]):
    """A text over the queue, until a key.

    Args:
        title: one line.
        text: shown text, over several lines.
        alarm: loud; only Enter or Esc ends it.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter", "leave", "Back"),
        Binding("question_mark,q", "leave_help", show=False),
    ]
    AUTO_FOCUS = "VerticalScroll"
    DEFAULT_CSS = """
    Notice { align: center middle; }
    Notice > VerticalScroll { width: 90; max-width: 96%; height: auto; max-height: 96%;
        border: round $primary; padding: 0 1; background: $surface; scrollbar-size-vertical: 1; }
    Notice #title { text-style: bold; width: 1fr; margin: 0 0 1 0; }
    Notice #text { width: 1fr; height: auto; }
    Notice.-alarm > VerticalScroll { border: heavy $error; }
    Notice.-alarm #title { text-style: bold reverse; color: $text-error; }
    Notice:ansi > VerticalScroll { background: ansi_default; }
    """

    def __init__(self, title: str, text: str, *, alarm: bool = False) -> None:
        super().__init__(classes="-alarm" if alarm else "")
        self._title_text = title
        self._text = text
        self._alarm = alarm

    def compose(self) -> ComposeResult:
        """Title and text."""
        with VerticalScroll():
            yield Static(Content(self._title_text), id="title", markup=False)
            yield Static(Content(self._text), id="text", markup=False)

    def action_leave(self) -> None:
        """Back to the queue."""
        self.dismiss(None)

    def action_leave_help(self) -> None:
        """Back as well, but never out of an alarm by a key that was meant for the queue."""
        if not self._alarm:
            self.dismiss(None)
