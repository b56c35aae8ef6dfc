"""The W&B run of a member: online if someone is logged in, else offline; training never waits for it.

One background thread of the process calls ``wandb``. W&B is never needed: whatever fails there is reported once, and
the local record is whole without it.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import queue
import re
import secrets
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wandb import Run

    from mlp_study.config.schema import RunConfig

log = logging.getLogger(__name__)

STALL = 45.0  # seconds without progress after which W&B is given up: above its own time limits
GOODBYE = 20.0  # the same at the end of the process, when its service writes its last rows
FINISH_TIMEOUT = 30
# Measured on 0.31: 97 ms a run by default, 8-19 ms with these; rows reach the disk within a second instead of 15.
SETTINGS: dict[str, Any] = {
    "silent": True,
    "console": "off",
    "disable_git": True,
    "disable_code": True,
    "disable_job_creation": True,
    "symlink": False,
    "x_disable_stats": True,
    "x_disable_meta": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
    "x_transaction_log_flush_interval": 1,
    "init_timeout": 20,
    "finish_timeout": FINISH_TIMEOUT,
}
SERVICE_IS_DEAD = ("MailboxClosedError", "HandleAbandonedError")


class WandbThread:
    """The thread that calls ``wandb``, one job after the other.

    Attributes:
        runs: those that are open.
    """

    def __init__(self) -> None:
        self.runs: set[WandbRun] = set()
        self._jobs: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._service: Any = None
        self._moved = 0.0  # when the last job ended
        self._online: bool | None = None  # whether the server can be reached; asked once
        self._stuck = self._given_up = False
        self._warned: set[str] = set()

    def do(self, job: Callable[[], object]) -> None:
        """Queue a job, which may not raise; nothing happens once W&B is given up."""
        if self._given_up:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="wandb", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def wait(self, stall: float = STALL) -> None:
        """Wait for all jobs that are queued; W&B is given up after ``stall`` seconds in which none ends."""
        if self._thread is None or self._given_up:
            return
        done = threading.Event()
        self._jobs.put(done.set)
        self._moved = time.monotonic()
        while not done.wait(0.2):
            if time.monotonic() - self._moved > stall:
                self._given_up = True
                self.warn(f"no answer for {stall:.0f} s")
                self._lose_service()
                return

    def close(self) -> None:
        """End W&B's service; what is still open counts as interrupted."""
        if self._thread is None:
            return
        for run in list(self.runs):
            run.finish(exit_code=255)
        self.wait()
        self.do(self._tear_down)  # it waits until the service has written, or sent, its last rows
        self.wait(GOODBYE)
        if self._given_up:
            self._tear_down()  # at once, since the service is dead

    def open(self, mode: str, arguments: dict[str, Any]) -> Run:
        """Open a run, offline where the server can't be reached."""
        if self._service is None:
            self._start()
        import wandb

        if mode != "offline" and self._online is None:
            self._online = self._logged_in(mode)
        if mode != "offline" and self._online:
            try:
                return wandb.init(**arguments, mode="online", reinit="create_new")
            except Exception as error:
                self._online = False
                self.warn(f"{in_words(error)}; recording offline")
        return wandb.init(**arguments, mode="offline", reinit="create_new")

    def finish(self, run: Run, exit_code: int) -> None:
        """End a run; after a server that takes no more data, without waiting for it."""
        start = time.monotonic()
        if not self._stuck:
            run.finish(exit_code=exit_code)
        if time.monotonic() - start > FINISH_TIMEOUT:
            self._stuck, self._online = True, False
            self.warn("the server takes no more data; `wandb sync` sends the folders later")

    def failed(self, error: Exception) -> None:
        """Report what a job raised. A dead service takes all open runs with it; the next run starts a new one."""
        self.warn(in_words(error))
        if isinstance(error, ConnectionError) or type(error).__name__ in SERVICE_IS_DEAD:
            self._lose_service()
            self._tear_down()

    def warn(self, why: str) -> None:
        """Log it, once: a thousand members fail alike."""
        if why not in self._warned:
            self._warned.add(why)
            log.warning("W&B: %s. The local record goes on.", why)

    def _work(self) -> None:
        while True:
            self._jobs.get()()
            self._moved = time.monotonic()

    def _start(self) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # else 0.2 s for telemetry, also of offline runs
        import wandb

        known = {name: value for name, value in SETTINGS.items() if name in wandb.Settings.model_fields}
        self._service = wandb.setup(wandb.Settings(**known)).ensure_service()
        os.environ.pop("WANDB_SERVICE", None)  # a child process has a service of its own
        # Failures are reported here; and W&B asks each open run's handler about every line: a tenth of its time.
        logging.getLogger("wandb").setLevel(logging.CRITICAL)
        atexit.register(self.close)  # after W&B's own registration, so it runs before: W&B would wait without end

    def _logged_in(self, mode: str) -> bool:
        """Ask whether someone is logged in and the server answers: ten seconds at most."""
        import wandb

        try:
            if wandb.login(prompt=False, verify=True):
                return True
        except Exception as error:
            self.warn(f"{in_words(error)}; recording offline")
            return False
        if mode == "online":
            self.warn("nobody is logged in (wandb login); recording offline")
        return False

    def _lose_service(self) -> None:
        """Kill W&B's service process: calls that wait for its answer end."""
        for run in list(self.runs):
            run.failed = True
        self.runs.clear()
        with contextlib.suppress(AttributeError):  # private, but W&B offers no way to end a service that hangs
            self._service._proc._process.kill()

    def _tear_down(self) -> None:
        atexit.unregister(self.close)
        if self._service is not None:
            import wandb

            with contextlib.suppress(Exception, SystemExit):
                wandb.teardown()
            self._service = None


class WandbRun:
    """One member's W&B run. Its methods return at once, never raise, and do nothing after a failure.

    Args:
        folder: the member's.
        off: record nothing.
        held: keep everything in memory until ``finish``, so that few runs are open at once.

    Attributes:
        url: its page if it is online, known once it is open.
        failed: whether W&B gave it up.
    """

    def __init__(self, folder: Path, off: bool = False, held: bool = False) -> None:
        self.url: str | None = None
        self.failed = off
        self._folder, self._thread = folder, _thread
        self._held: list[Callable[[], object]] | None = [] if held else None
        self._id = None if off else _id_for(folder)
        self._run: Any = None

    @property
    def id(self) -> str | None:
        """Its id; None if W&B is off or failed."""
        return None if self.failed else self._id

    @property
    def where(self) -> str | None:
        """Its page, or the folder with its offline record; None if W&B is off or failed."""
        return None if self.id is None else self.url or str(self._folder / "wandb")

    def log(self, rows: list[dict[str, float]]) -> None:
        """Add rows; those of an epoch have ``epoch``, those of a step ``step``."""
        self._do(lambda: [self._run.log(row) for row in rows])

    def summary(self, values: dict[str, Any]) -> None:
        """Set the numbers and words that the table of runs shows."""
        self._do(lambda: self._run.summary.update(values))

    def images(self, paths: dict[str, Path]) -> None:
        """Add PNG files by name."""

        def add() -> None:
            import wandb

            self._run.log({f"figures/{name}": wandb.Image(str(path)) for name, path in paths.items()})

        self._do(add)

    def table(self, name: str, columns: list[Any], rows: list[Any]) -> None:
        """Add a table, such as a sweep's of all its runs."""

        def add() -> None:
            import wandb

            self._run.log({name: wandb.Table(columns=columns, data=rows, allow_mixed_types=True)})

        self._do(add)

    def start(self, mode: str, **arguments: Any) -> None:
        """Open it with these arguments of ``wandb.init``."""

        def begin() -> None:
            place = {"dir": str(self._folder), "id": self._id, "resume": "allow"}
            run = self._thread.open(mode, {**place, **arguments})
            run.define_metric("epoch", hidden=True)
            run.define_metric("step", hidden=True)
            run.define_metric("*", step_metric="epoch")
            run.define_metric("train/step_loss", step_metric="step")
            self._run, self.url = run, run.url

        if not self.failed:
            self._thread.runs.add(self)
        self._do(begin)

    def finish(self, exit_code: int = 0) -> None:
        """End it; ``wait`` waits until that is done."""

        def end() -> None:
            self._thread.finish(self._run, exit_code)
            self._thread.runs.discard(self)

        held, self._held = self._held or [], None
        for action in [*held, end]:
            self._do(action)

    def _do(self, action: Callable[[], object]) -> None:
        if self._held is not None:
            self._held.append(action)
        elif not self.failed:
            self._thread.do(partial(self._attempt, action))

    def _attempt(self, action: Callable[[], object]) -> None:
        try:
            if not self.failed:
                action()
        except Exception as error:
            self.failed = True
            self._thread.runs.discard(self)
            self._thread.failed(error)


_thread = WandbThread()


def open_run(folder: Path, config: RunConfig, *, held: bool = False) -> WandbRun:
    """Open the W&B run of the member whose records go to ``folder``; it goes on in the one that it had before."""
    name = f"{config.activation.name} {config.data.scale} {config.optimizer.name} seed {config.seed}"
    about = {**config.to_dict(), "run_id": config.run_id}
    return _started(folder, config, held, name=name, group=config.wandb.group, config=about)


def open_sweep(folder: Path, config: RunConfig, name: str, about: dict[str, Any]) -> WandbRun:
    """Open the W&B run of a whole sweep, beside those of its members and in their group."""
    group = config.wandb.group or name
    return _started(folder, config, False, name=name, group=group, job_type="sweep", config=about)


def wait() -> None:
    """Wait for every finished run of this process to be recorded; 45 s without an answer at most."""
    _thread.wait()


def _started(folder: Path, run_config: RunConfig, held: bool, **arguments: Any) -> WandbRun:
    wandb = run_config.wandb
    off = wandb.mode == "disabled" or (wandb.mode == "auto" and os.environ.get("WANDB_MODE") == "disabled")
    run = WandbRun(folder.absolute(), off, held)
    run.start(wandb.mode, project=wandb.project, entity=wandb.entity, tags=wandb.tags, **arguments)
    return run


def _id_for(folder: Path) -> str:
    """Find the id of the W&B run in this folder, so that a resumed run goes on in it; make one where there is none.

    Not derived from the run id: the same run repeated elsewhere is another trial and must not append to the first.
    """
    for old in sorted((folder / "wandb").glob("*run-*"), reverse=True):
        if match := re.fullmatch(r"(?:offline-)?run-\d{8}_\d{6}-(\w+)", old.name):
            return match[1]
    return secrets.token_hex(5)


def in_words(error: Exception) -> str:
    """Put an error in one line, without this machine's key."""
    text = f"{type(error).__name__}: {error}".splitlines()[0]
    secret = os.environ.get("WANDB_API_KEY")
    return text.replace(secret, "***") if secret else text
