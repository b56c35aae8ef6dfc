"""Signals that ask a command to end: one line and an exit code, from its first moment to its last.

This module has the only handlers. While nothing is at stake a signal raises ``Stopped``. Within ``deferred()``, as
while a population trains, it is remembered, and whoever deferred it asks for it when it suits: training writes a
checkpoint first, a sweep what is finished.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

from mlp_study.errors import Interrupted, Preempted

PREEMPTING = tuple(getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name))
SIGNALS: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM, *PREEMPTING)


def interruption(name: str, what: str) -> Interrupted:
    """Make the error that answers the signal of this name; schedulers send SIGUSR1 and SIGUSR2 to preempt."""
    return (Preempted if name.startswith("SIGUSR") else Interrupted)(what)


class Stopped(KeyboardInterrupt):
    """A signal that came while nothing trained; no Exception, so that nobody takes it for a failure of a run.

    Attributes:
        answer: the error that the command ends with.
    """

    def __init__(self, number: int) -> None:
        name = signal.Signals(number).name
        self.answer = interruption(name, f"stopped by {name}; what was finished is recorded")
        super().__init__(str(self.answer))


def listen() -> None:
    """End the command at a signal: for its first lines, before the slow imports, where nothing is begun."""
    for number in SIGNALS:
        signal.signal(number, _end)


def _end(number: int, frame: Any) -> NoReturn:
    answer = Stopped(number).answer
    with contextlib.suppress(Exception):  # the signal may have interrupted one that writes
        sys.stdout.flush()
    os.write(2, f"error: {answer}\n".encode())  # not `print`: the signal may have interrupted one
    os._exit(answer.code)


def _over(number: int, frame: Any) -> None:
    """Let nothing but Ctrl-C cut short what the command, which has said how it ended, still sends to W&B."""
    if number == signal.SIGINT:
        os._exit(Interrupted.code)


def _imports(frame: FrameType | None) -> bool:
    """Whether a module is being imported. What is raised there may reach C++ that aborts, as PyTorch's does."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


class _Listener:
    """The handlers, and the first signal that they heard.

    Libraries swallow what is raised in callbacks and careless ``except`` clauses. So the first signal is remembered:
    training that begins later asks for it, and so does the end of ``Work``.

    Attributes:
        first: the first signal; None for none.
        harmless: whether it came as all training ended well: it keeps the next one from beginning, and no result back.
        deferrals: how many blocks of ``deferred`` are open.
        passed_on: a number that a parent process sets to the signal that it got; None for none.
    """

    def __init__(self) -> None:
        self.first: int | None = None
        self.harmless = False
        self.deferrals = 0
        self.passed_on: Any = None
        self._before: dict[signal.Signals, Any] = {}

    def install(self) -> bool:
        """Take the signals over; False if that is done already, or in a thread that may not."""
        if self._before or threading.current_thread() is not threading.main_thread():
            return False
        self.first, self.harmless = None, False
        self._before = {number: signal.signal(number, self._hear) for number in SIGNALS}
        return True

    def insist(self) -> None:
        """Take SIGTERM back from a library that has put its own answer before this one."""
        if self._before and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._hear)

    def remove(self) -> None:
        """Give the signals back to who had them before, who also gets one that nobody has answered."""
        before, self._before = self._before, {}
        for number, handler in before.items():
            signal.signal(number, _over if handler is _end else handler)
        handler = before.get(signal.Signals(self.first)) if self.first is not None and self.harmless else None
        if callable(handler) and handler not in (_end, signal.default_int_handler):
            handler(self.first, None)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        again = self.first is not None and not self.harmless
        if not again:
            self.first, self.harmless = number, False
        elif number != signal.SIGINT:  # schedulers repeat their signals
            return
        if self.deferrals and again:
            name = signal.Signals(number).name  # not KeyboardInterrupt: the Trainer would answer it by exit code 1
            raise interruption(name, f"stopped at once by a second signal, {name}")
        if not self.deferrals:
            if _imports(frame):
                _end(number, frame)
            raise Stopped(number)


_listener = _Listener()


class Work:
    """Within it a signal raises ``Stopped``, or ends the command at once where it meets an import."""

    def __enter__(self) -> Self:
        self._outermost = _listener.install()
        if self._outermost:
            self._hook, sys.unraisablehook = sys.unraisablehook, self._unraisable
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if not self._outermost:
            return
        sys.unraisablehook = self._hook
        _listener.remove()
        unheard = error is None or (isinstance(error, Exception) and not isinstance(error, Interrupted))
        if unheard and (stopped := swallowed()) is not None:
            raise stopped from error

    def _unraisable(self, about: Any) -> None:
        if not isinstance(about.exc_value, Stopped):
            self._hook(about)


@contextlib.contextmanager
def deferred(passed_on: Any = None) -> Iterator[None]:
    """Within it a signal is only remembered: ask ``asked`` or ``raise_if_asked``. A second Ctrl-C acts at once.

    Args:
        passed_on: a shared number that a parent process sets to the signal that it got; None for none.
    """
    outermost = _listener.install()
    mine = threading.current_thread() is threading.main_thread()
    before = _listener.passed_on
    _listener.passed_on = before if passed_on is None else passed_on
    _listener.deferrals += mine
    try:
        yield
        if _listener.deferrals == 1 and _listener.first is not None:
            _listener.harmless = True
    finally:
        _listener.deferrals -= mine
        _listener.passed_on = before
        if outermost:
            _listener.remove()


def insist() -> None:
    """Take SIGTERM back from a library that has put its own answer before this module's."""
    _listener.insist()


def asked() -> str:
    """The name of the signal that has come since the work began; empty for none."""
    number = _listener.first or (_listener.passed_on.value if _listener.passed_on is not None else None)
    return signal.Signals(number).name if number else ""


def raise_if_asked() -> None:
    """Raise ``Interrupted``, or ``Preempted``, after a signal."""
    if name := asked():
        raise interruption(name, f"stopped by {name}")


def swallowed() -> Stopped | None:
    """The signal that caused an apparently unrelated error: raised during an import, it leaves half a module behind."""
    return None if _listener.first is None or _listener.harmless else Stopped(_listener.first)


def answer_of(stop: Interrupted | KeyboardInterrupt) -> Interrupted:
    """The error that the command ends with, whether training was stopped or something else."""
    if isinstance(stop, Interrupted):
        return stop
    return stop.answer if isinstance(stop, Stopped) else Interrupted("interrupted; what was finished is recorded")
