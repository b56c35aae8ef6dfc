"""Signals that ask a command to end: one line and an exit code, from its first moment to its last.

While it trains the answer is a checkpoint (``training.stopping``), and a sweep first writes what is finished
(``sweep.interruption``). This is the answer while neither listens: imports, planning, and what comes after training.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

from mlp_study.errors import Interrupted, Preempted

PREEMPTING = tuple(getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name))
SIGNALS: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM, *PREEMPTING)


def interruption(name: str, what: str) -> Interrupted:
    """The error that answers the signal of this name; schedulers send SIGUSR1 and SIGUSR2 to preempt."""
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
    """For the first lines of a command, before its slow imports: nothing is begun, so a signal just ends it."""
    for number in SIGNALS:
        signal.signal(number, _end)


def _end(number: int, frame: Any) -> NoReturn:
    answer = Stopped(number).answer
    with contextlib.suppress(Exception):  # the signal may have interrupted one that writes
        sys.stdout.flush()
    os.write(2, f"error: {answer}\n".encode())  # not `print`: the signal may have interrupted one
    os._exit(answer.code)


def _imports(frame: FrameType | None) -> bool:
    """Whether a module is being imported. What is raised there may reach C++ that aborts, as PyTorch's does."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _over(number: int, frame: Any) -> None:
    """The command has ended, and has said how; only Ctrl-C cuts short what is still sent to W&B."""
    if number == signal.SIGINT:
        os._exit(Interrupted.code)


_working: Work | None = None


class Work:
    """Within it a signal raises ``Stopped``, or ends the command at once where it meets an import.

    Repeated ones change nothing, but for a second Ctrl-C.

    Libraries swallow what is raised in callbacks and careless ``except`` clauses. So the first signal is remembered:
    training that begins later asks for it (``heard``), and so does the end of the block.

    Attributes:
        first: the first signal; None for none.
        noted: one that came as a training ended well: it keeps the next one from beginning, and no result back.
    """

    def __init__(self) -> None:
        self.first: int | None = None
        self.noted: int | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        global _working
        if _working is None and threading.current_thread() is threading.main_thread():
            _working, self._hook = self, sys.unraisablehook
            sys.unraisablehook = self._unraisable
            self._before = {number: signal.signal(number, self._ask) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        global _working
        if not self._before:
            return
        for number, handler in self._before.items():
            signal.signal(number, _over if handler is _end else handler)
        sys.unraisablehook, _working = self._hook, None
        unheard = error is None or (isinstance(error, Exception) and not isinstance(error, Interrupted))
        if self.first is not None and unheard:
            raise Stopped(self.first) from error

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.first is None or number == signal.SIGINT:
            self.first = self.first or number
            if _imports(frame):
                _end(number, frame)
            raise Stopped(number)

    def _unraisable(self, about: Any) -> None:
        if not isinstance(about.exc_value, Stopped):
            self._hook(about)


def heard() -> int | None:
    """The signal that has come since the command's work began; None for none."""
    return None if _working is None else _working.first or _working.noted


def swallowed() -> Stopped | None:
    """The signal that caused an apparently unrelated error: raised during an import, it leaves half a module behind."""
    return None if _working is None or _working.first is None else Stopped(_working.first)


def answer_of(stop: Interrupted | KeyboardInterrupt) -> Interrupted:
    """The error that the command ends with, whether training was stopped or something else."""
    if isinstance(stop, Interrupted):
        return stop
    return stop.answer if isinstance(stop, Stopped) else Interrupted("interrupted; what was finished is recorded")
