"""A second process for slow side work (W&B, figures), so that a run neither waits for it nor dies with it.

The imports of W&B or matplotlib alone take half a second; in a companion started early they overlap with the main
process's imports, on another core. Messages are plain values, pickled over a private pipe, handled in order.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from mlp_study.runtime.startup import Process

# The child finds modules where its parent does, wherever either was started.
_START = "import pickle, sys; sys.path[:], m = pickle.load(sys.stdin.buffer); __import__(m, fromlist=['serve']).serve()"
_GOODBYE = {"event": "goodbye"}

Message = dict[str, Any]


class Companion:
    """A child process running ``module.serve()``: it gets each message sent, and its replies reach ``on_reply``.

    ``send`` never waits and never raises: once the child is gone, ``on_lost`` has been called and messages are dropped.
    Both callbacks run in a thread of their own.

    Args:
        module: the module whose ``serve`` it runs.
        on_reply: called with each reply.
        on_lost: called with the reason, if it ends early.
        aside: for a single run's start, whose imports go first: the child keeps away from this thread's core until it
            leaves a block of ``giving_way``. Not where many runs go on for long: what W&B is not given while they
            train, they would wait for at their end.
    """

    def __init__(
        self, module: str, on_reply: Callable[[Message], None], on_lost: Callable[[str], None], aside: bool = False
    ) -> None:
        self._on_reply, self._on_lost = on_reply, on_lost
        self._last_reply = time.monotonic()
        self._owner = os.getpid()
        self._said_goodbye = self._lost = False
        self._ended = threading.Event()
        self._messages: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        with _left_to_this_thread() if aside else contextlib.nullcontext():
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},  # the cores are for training
                start_new_session=True,  # Ctrl-C must not end it before the run has sent its last words
            )
        self._messages.put(pickle.dumps(([os.path.abspath(p) for p in sys.path], module)))  # noqa: PTH100 - Path.resolve would follow links
        for work in (self._write, self._read):
            threading.Thread(target=work, name=f"{module}.{work.__name__}", daemon=True).start()

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    @property
    def usable(self) -> bool:
        """Whether the child lives and is this process's own, not inherited by a fork."""
        return not self._lost and not self._ended.is_set() and os.getpid() == self._owner

    def send(self, message: Message) -> None:
        """Queue a message; it is dropped if the child is gone."""
        if self.usable:
            self._messages.put(pickle.dumps(message))

    def close(self, stall: float) -> bool:
        """Let the child finish what was sent; False, and it is ended, if no answer comes for ``stall`` seconds."""
        if os.getpid() != self._owner:
            return True
        self._messages.put(None)
        self._last_reply = time.monotonic()
        while not self._ended.wait(0.02):
            if time.monotonic() - self._last_reply > stall:
                self.kill()
                return False
        return True

    def kill(self) -> None:
        """End the child now, without calling ``on_lost``."""
        self._said_goodbye = True
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)  # its own session: nobody else is in it
            self._process.wait()

    def _write(self) -> None:
        try:
            with self._process.stdin as pipe:  # type: ignore[union-attr] # opened as a pipe above
                while (message := self._messages.get()) is not None:
                    pipe.write(message)
                    if self._messages.empty():
                        pipe.flush()
        except OSError:  # of a write or of the flush as the pipe closes; the reader says that the child is gone
            self._lost = True

    def _read(self) -> None:
        with self._process.stdout as pipe:  # type: ignore[union-attr] # opened as a pipe above
            for reply in messages(pipe):
                self._last_reply = time.monotonic()
                if reply == _GOODBYE:
                    self._said_goodbye = True
                else:
                    self._on_reply(reply)
        if not self._said_goodbye:
            self._lost = True
            self._on_lost(f"its process ended early (status {self._process.wait()})")
        self._ended.set()
        self._messages.put(None)
        self._process.wait()


def messages(pipe: IO[bytes]) -> Iterator[Message]:
    """The messages of a pipe until its other end is closed, even in the middle of one."""
    while True:
        try:
            yield pickle.load(pipe)
        except (EOFError, OSError, ValueError, pickle.UnpicklingError):
            return


@contextlib.contextmanager
def _left_to_this_thread() -> Iterator[None]:
    """What is started in this block may not use the core that this thread is on. Where there is one core, it may."""
    everywhere = os.sched_getaffinity(0) if sys.platform == "linux" else set()
    here = _core_of_this_thread() & everywhere
    if here != everywhere:
        _stay_on(everywhere - here)  # a child inherits it
    try:
        yield
    finally:
        if here != everywhere:
            _stay_on(here)  # to where the child is not, at once
            _stay_on(everywhere)


@contextlib.contextmanager
def giving_way() -> Iterator[None]:
    """For the imports of a companion that was started ``aside``: afterwards it uses all of its parent's cores.

    With less weight, since Linux may give this session of its own as much as the parent's.
    """
    with contextlib.suppress(OSError):  # another system, or one that does not share by sessions
        Path("/proc/self/autogroup").write_text("10")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the parent is gone
            _stay_on(os.sched_getaffinity(os.getppid()) if sys.platform == "linux" else set())


def _stay_on(cores: set[int]) -> None:
    """Keep this thread on some cores; not where the system forbids it, since nothing but time depends on it."""
    if cores and sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, cores)


def _core_of_this_thread() -> set[int]:
    """By proc(5) the 39th word, of which the second one stands in brackets; none where there is no such file."""
    with contextlib.suppress(OSError):
        return {int(Path("/proc/thread-self/stat").read_text(errors="replace").rpartition(")")[2].split()[36])}
    return set()


def serve_with(
    handle: Callable[[Message, Callable[[Message], None]], None],
    at_end: Callable[[Callable[[Message], None]], None],
    nice: int,
) -> None:
    """The child's life: ``handle(message, reply)`` for each message, ``at_end(reply)`` once the parent is done or dead.

    What libraries print goes nowhere, so that it cannot be taken for an answer.
    """
    Process.of_a_command = True  # a process of its own: what it imports need never be looked through for garbage
    os.nice(nice)  # training comes first where cores are scarce
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def reply(message: Message) -> None:
        with contextlib.suppress(OSError):  # the parent is gone: what it sent before is still worth finishing
            answers.write(pickle.dumps(message))
            answers.flush()

    for message in messages(sys.stdin.buffer):
        handle(message, reply)
    at_end(reply)
    reply(_GOODBYE)
    with contextlib.suppress(OSError):
        answers.close()  # the parent need not wait for this process's own end
