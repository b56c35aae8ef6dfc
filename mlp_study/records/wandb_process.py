"""The companion process that talks to W&B: it opens, fills and finishes the runs that ``tracking`` asks for.

Nothing here may end training: every failure becomes a reply, and a run that failed is left alone from then on.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlp_study.runtime.companion import Message, giving_way, serve_with
from mlp_study.runtime.startup import StandIn, uncollected

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from wandb import Run

# Measured on 0.31: 97 ms a run by default, 8-19 ms with these; rows reach the disk within a second instead of 15.
LEAN: dict[str, Any] = {
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
    "finish_timeout": 30,
}
GIVE_UP_AFTER = 3  # failures in a row
SERVICE_IS_DEAD = ("MailboxClosedError", "HandleAbandonedError")  # the second one to who was waiting for its answer


class Runs:
    """The open W&B runs by the key their messages carry."""

    def __init__(self) -> None:
        self.open: dict[str, Run] = {}
        self.failures = 0
        self.settings: Any = None
        self.reachable: bool | None = None  # asked once
        self.stuck = False  # the server stopped taking data: no more waiting for it

    def handle(self, message: Message, reply: Callable[[Message], None]) -> None:
        """Do what ``message`` asks; a failure is answered and drops the run."""
        do, key = message.pop("do"), message.pop("run", None)
        try:
            if do == "prepare":
                self._prepare(reply, **message)
            elif do == "open":
                reply({"event": "opened", "run": key, **self._open(key, reply, **message)})
                self.failures = 0
            elif do == "finish" and key in self.open:
                self._finish(key, reply, **message)
            elif key in self.open:
                getattr(self, f"_{do}")(key, **message)
            if do == "finish":
                reply({"event": "finished", "run": key})
        except Exception as error:
            self.failures += do == "open"
            self.open.pop(key, None)
            reply({"event": "failed", "run": key, "why": _in_words(error)})
            if isinstance(error, ConnectionError) or type(error).__name__ in SERVICE_IS_DEAD:
                os._exit(1)  # W&B's service is dead, and with it every open run: the next run gets a new companion

    def at_end(self, _: Callable[[Message], None]) -> None:
        """The parent closed the pipe or died: what is still open was interrupted; then all is brought to the disk."""
        for key in list(self.open):
            self.handle({"do": "finish", "run": key, "exit_code": 255}, lambda _: None)
        if self.settings is not None:
            import wandb

            with contextlib.suppress(Exception):
                wandb.teardown()  # `finish` returns before W&B's service has written its last rows

    def _prepare(self, reply: Callable[[Message], None], mode: str, single: bool = False) -> None:
        """What every run needs once: W&B's import, its service, and whether its server can be reached."""
        if self.settings is None:
            with giving_way() if single else contextlib.nullcontext():
                with uncollected():
                    import wandb

                    _spare(wandb)
                    for slow in ("wandb.sdk.launch.inputs.internal", "PIL.PngImagePlugin"):  # for the first init, image
                        with contextlib.suppress(ImportError):
                            importlib.import_module(slow)
                known = {name: value for name, value in LEAN.items() if name in wandb.Settings.model_fields}
                self.settings = wandb.Settings(**known)
                wandb.setup(self.settings).ensure_service()
                # Each run's ``debug.log`` has warnings only: W&B asks every open run's handler about every line, which
                # with 256 runs open is up to a tenth of its time (docs/speed.md).
                logging.getLogger("wandb").setLevel(logging.WARNING)
        if mode != "offline" and self.reachable is None:
            self.reachable = self._can_reach(mode, reply)

    def _open(self, key: str, reply: Callable[[Message], None], mode: str, **init: Any) -> Message:
        if self.failures >= GIVE_UP_AFTER:
            raise RuntimeError(f"given up after {self.failures} failures in a row")
        self._prepare(reply, mode)
        try:
            run = self._init("online" if mode != "offline" and self.reachable else "offline", init)
        except Exception as error:
            if not self.reachable:
                raise
            self.reachable = False
            reply({"event": "warning", "why": f"{_in_words(error)}; recording offline"})
            run = self._init("offline", init)
        run.define_metric("epoch", hidden=True)
        run.define_metric("step", hidden=True)
        run.define_metric("*", step_metric="epoch")
        run.define_metric("train/step_loss", step_metric="step")
        self.open[key] = run
        return {"offline": run.offline, "url": run.url}

    def _init(self, mode: Literal["online", "offline"], init: dict[str, Any]) -> Run:
        import wandb

        return wandb.init(**init, mode=mode, reinit="create_new")  # with the settings of ``wandb.setup``

    def _can_reach(self, mode: str, reply: Callable[[Message], None]) -> bool:
        """Whether someone is logged in and the server answers: ten seconds at most, once per process."""
        import wandb

        try:
            if wandb.login(prompt=False, verify=True):
                return True
        except Exception as error:
            reply({"event": "warning", "why": f"{_in_words(error)}; recording offline"})
            return False
        if mode == "online":
            reply({"event": "warning", "why": "nobody is logged in (wandb login); recording offline"})
        return False

    def _log(self, key: str, rows: list[dict[str, float]]) -> None:
        for row in rows:
            self.open[key].log(row)

    def _summary(self, key: str, values: dict[str, Any]) -> None:
        self.open[key].summary.update(values)

    def _images(self, key: str, paths: dict[str, str]) -> None:
        import wandb

        self.open[key].log({f"figures/{name}": wandb.Image(path) for name, path in paths.items()})

    def _table(self, key: str, name: str, columns: list[Any], rows: list[Any]) -> None:
        import wandb

        self.open[key].log({name: wandb.Table(columns=columns, data=rows, allow_mixed_types=True)})

    def _finish(self, key: str, reply: Callable[[Message], None], exit_code: int) -> None:
        run, start = self.open.pop(key), time.monotonic()
        if not self.stuck:
            run.finish(exit_code=exit_code)
        if time.monotonic() - start > LEAN["finish_timeout"]:
            self.stuck, self.reachable = True, False
            reply({"event": "warning", "why": "the server takes no more data; `wandb sync` sends the folders later"})


def _spare(wandb: ModuleType) -> None:
    """Leave out what W&B does for itself in every process that opens a run: 0.2 s of processor time.

    Its analytics import OpenTelemetry and start two threads that would send how long its calls took, also for a run
    that is recorded offline. Its package ``launch`` imports what starts jobs in the cloud, to read one small module of
    it: has this process staged inputs for such a job? It has not; the package's place is taken until someone asks more.
    """
    with contextlib.suppress(ImportError, AttributeError):  # other versions have neither
        importlib.import_module("wandb.analytics.opentelemetry.opentelemetry_proxy").disable()
    name = "wandb.sdk.launch"
    if name not in sys.modules:
        wandb.sdk.launch = sys.modules[name] = StandIn(name, __path__=[str(Path(*wandb.__path__, "sdk", "launch"))])


def _in_words(error: Exception) -> str:
    """One line, without anything that looks like this machine's key."""
    text = f"{type(error).__name__}: {error}".splitlines()[0]
    secret = os.environ.get("WANDB_API_KEY")
    return text.replace(secret, "***") if secret else text


def serve() -> None:
    """Entry point of the companion."""
    # To W&B pandas is an option: it asks at an image or table whether that is a data frame, and the answer is the
    # import's 0.3 s, between a run's end and its last words. None arrives here; to Python this says: not installed.
    sys.modules["pandas"] = None  # type: ignore[assignment] # typeshed knows modules only
    runs = Runs()
    serve_with(runs.handle, runs.at_end, nice=10)
