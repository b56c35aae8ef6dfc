"""The W&B run of a member: online if someone is logged in, else offline, in a companion process that no run waits for.

W&B is never needed: whatever fails there is reported once, and the local record is whole without it.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import secrets
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp_study.runtime.companion import Companion, Message

if TYPE_CHECKING:
    from mlp_study.config.schema import RunConfig

log = logging.getLogger(__name__)

MAX_STARTS = 3  # a companion that keeps dying is not started again
STALL = 45.0  # seconds without any answer after which W&B is given up: above its own time limits
GOODBYE = 20.0  # the same when every run is complete: W&B's service then writes its last rows, with low priority


class Tracker:
    """The companion of this process and the W&B runs it has open."""

    def __init__(self) -> None:
        self.reset()
        atexit.register(self.close)
        os.register_at_fork(after_in_child=self.reset)  # the companion is the parent's

    def reset(self) -> None:
        """Forget the companion and all runs."""
        self._companion: Companion | None = None
        self._starts = 0
        self._open: dict[str, TrackedRun] = {}
        self._changed = threading.Condition()
        self._last_reply = 0.0
        self._warned: set[str] = set()

    def send(self, message: Message, opens: TrackedRun | None = None) -> None:
        """Queue a message for the companion, which is started if there is none; ``wait`` waits for what it opens."""
        with self._changed:
            if self._companion is None and self._starts < MAX_STARTS:
                self._starts += 1
                aside = message.get("single", False)
                self._companion = Companion("mlp_study.records.wandb_process", self._hear, self._give_up, aside)
            if opens and self._companion:
                self._open[opens.key] = opens
            elif opens:
                opens.failed = True
            if self._companion:
                self._companion.send(message)

    def wait(self, stall: float = STALL) -> None:
        """Until W&B has all of every finished run; given up after ``stall`` seconds without an answer.

        What it has reaches the disk or the server within moments, and before this process ends.
        """
        self._last_reply = time.monotonic()
        with self._changed:
            while self._open:
                self._changed.wait(0.1)
                if time.monotonic() - self._last_reply > stall:
                    break
        if self._open:
            self._give_up(f"no answer for {stall:.0f} s")

    def pid(self) -> int | None:
        """The companion's process id, if there is one."""
        return self._companion.pid if self._companion else None

    def close(self) -> None:
        """End the companion; what is still open counts as interrupted."""
        if self._companion:
            self._companion.close(STALL if self._open else GOODBYE)

    def _hear(self, reply: Message) -> None:
        self._last_reply = time.monotonic()
        run = self._open.get(reply.get("run", ""))
        if reply["event"] == "opened" and run:
            run.url = reply["url"]
        if reply["event"] in ("warning", "failed"):
            self._warn(reply["why"])
        if reply["event"] == "failed" and run:
            run.failed = True
        if reply["event"] in ("finished", "failed") and run:
            with self._changed:
                self._open.pop(run.key)
                self._changed.notify_all()

    def _give_up(self, why: str) -> None:
        """Every open run goes on without W&B; the next one starts afresh."""
        with self._changed:
            companion, self._companion = self._companion, None
            if self._open:
                self._warn(why)
            for run in self._open.values():
                run.failed = True
            self._open.clear()
            self._changed.notify_all()
        if companion:
            companion.kill()

    def _warn(self, why: str) -> None:
        if why not in self._warned:  # a thousand members fail alike: say it once
            self._warned.add(why)
            log.warning("W&B: %s. The local record goes on.", why)


class TrackedRun:
    """One member's W&B run. Its methods return at once, never raise, and do nothing after a failure.

    Attributes:
        url: its page if it is online, known once it is open.
        failed: whether W&B gave it up.
    """

    def __init__(self, tracker: Tracker | None, folder: Path, held: bool = False) -> None:
        self.key = secrets.token_hex(8)
        self.url: str | None = None
        self.failed = False
        self._tracker, self._folder = tracker, folder
        self._held: list[Message] | None = [] if held else None
        self._id = _id_for(folder) if tracker else None

    @property
    def id(self) -> str | None:
        """Its id, None if W&B is off or failed."""
        return None if self.failed else self._id

    @property
    def where(self) -> str | None:
        """Its page, or the folder with its offline record; None if W&B is off or failed."""
        return None if self.id is None else self.url or str(self._folder / "wandb")

    def log(self, rows: list[dict[str, float]]) -> None:
        """Add rows; those of an epoch have ``epoch``, those of a step ``step``."""
        self._send({"do": "log", "rows": rows})

    def summary(self, values: dict[str, Any]) -> None:
        """The numbers and words that the table of runs shows."""
        self._send({"do": "summary", "values": values})

    def images(self, paths: dict[str, Path]) -> None:
        """PNG files by name."""
        self._send({"do": "images", "paths": {name: str(path) for name, path in paths.items()}})

    def table(self, name: str, columns: list[str], rows: list[list[Any]]) -> None:
        """A table, such as a sweep's of all its runs."""
        self._send({"do": "table", "name": name, "columns": columns, "rows": rows})

    def finish(self, exit_code: int = 0) -> None:
        """The last message; ``Tracker.wait`` waits until it has been obeyed."""
        held, self._held = self._held or [], None
        for message in held:
            self._send(message)
        self._send({"do": "finish", "exit_code": exit_code})

    def start(self, init: dict[str, Any]) -> None:
        """Open it with these arguments of ``wandb.init``."""
        self._send({"do": "open", "dir": str(self._folder), "id": self._id, "resume": "allow", **init})

    def _send(self, message: Message) -> None:
        if self._tracker is None or self.failed:
            return
        if self._held is not None:
            self._held.append(message)
        else:
            self._tracker.send({**message, "run": self.key}, opens=self if message["do"] == "open" else None)


_tracker = Tracker()


def prepare(config: RunConfig, *, single: bool = False) -> None:
    """Start the companion now, so that W&B's import and start overlap with this process's own imports.

    Args:
        config: of a run that will be recorded.
        single: whether it is the only one.
    """
    if _wanted(config):
        _tracker.send({"do": "prepare", "mode": config.wandb.mode, "single": single})


def open_run(folder: Path, config: RunConfig, *, held: bool = False) -> TrackedRun:
    """The W&B run of the member whose records go to ``folder``; the same id again if that folder had one already.

    ``held`` keeps everything in memory until ``finish``, for populations whose many open runs would be a burden.
    """
    run = TrackedRun(_tracker if _wanted(config) else None, folder.absolute(), held)
    wandb = config.wandb
    name = f"{config.activation.name} {config.data.scale} {config.optimizer.name} seed {config.seed}"
    run.start(
        {
            "mode": wandb.mode,
            "project": wandb.project,
            "entity": wandb.entity,
            "group": wandb.group,
            "tags": wandb.tags,
            "name": name,
            "config": {**config.to_dict(), "run_id": config.run_id},
        }
    )
    return run


def open_sweep(folder: Path, config: RunConfig, name: str, about: dict[str, Any]) -> TrackedRun:
    """The W&B run of a whole sweep, beside those of its members and in their group; the same again on a resume."""
    run = TrackedRun(_tracker if _wanted(config) else None, folder.absolute())
    wandb = config.wandb
    run.start(
        {
            "mode": wandb.mode,
            "project": wandb.project,
            "entity": wandb.entity,
            "group": wandb.group or name,
            "tags": wandb.tags,
            "name": name,
            "job_type": "sweep",
            "config": about,
        }
    )
    return run


def wait() -> None:
    """Wait for every finished run of this process to be recorded; 45 s without an answer at most."""
    _tracker.wait()


def _wanted(config: RunConfig) -> bool:
    mode = config.wandb.mode
    return mode != "disabled" and not (mode == "auto" and os.environ.get("WANDB_MODE") == "disabled")


def _id_for(folder: Path) -> str:
    """The id of the W&B run in this folder, so that a resumed run goes on in it; a new one where there is none.

    Not derived from the run id: the same run repeated elsewhere is another trial and must not append to the first.
    """
    for old in sorted((folder / "wandb").glob("*run-*"), reverse=True):
        if match := re.fullmatch(r"(?:offline-)?run-\d{8}_\d{6}-(\w+)", old.name):
            return match[1]
    return secrets.token_hex(5)
