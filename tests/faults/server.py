"""Commands without the wait for imports: a process that has imported everything forks one child for each.

    {"start": {"module": "train", "argv": [...], "cwd": folder, "out": file, "err": file, "inject": code}} -> pid
    {"wait": pid, "seconds": s} -> its exit code, negative for a signal; null if it still runs

``inject`` is code that the child runs first, to put a fault where no signal reaches.
"""

from __future__ import annotations

import atexit
import importlib
import json
import logging
import os
import signal
import sys
import time
import traceback
from typing import Any

from mlp_study.runtime import signals

MODULES = (
    *("mlp_study.train", "mlp_study.sweep.launch", "mlp_study.sweep.hydra_files", "mlp_study.training.population"),
    *(
        "hydra._internal.core_plugins.basic_launcher",
        "hydra.core.override_parser.overrides_parser",
        "pandas",
        "pyarrow",
    ),
    *("lightning.pytorch", "torch", "sklearn.datasets", "mlp_study.sweep.processes", "mlp_study.status"),
)


def child(order: dict[str, Any]) -> int:
    """The command's life; returns its exit code."""
    signals.listen()  # as the command does before its imports
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.SIGNALS)
    os.setsid()
    for number, name in ((1, order["out"]), (2, order["err"])):
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(file, number)
    os.environ.update(order.get("env") or {})
    os.chdir(order["cwd"])
    if order.get("umask") is not None:
        os.umask(order["umask"])
    module = order.get("module", "train")
    sys.argv = [module, *order["argv"]]
    exec(order.get("inject") or "", {})
    from mlp_study.config.hydra_app import run_hydra
    from mlp_study.runtime.guard import guarded

    try:
        if module == "train":
            from mlp_study import train

            run_hydra(train.run, "train", train.PURPOSE)
        else:
            guarded(lambda: importlib.import_module(f"mlp_study.{module}").main(order["argv"]))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except KeyboardInterrupt:
        traceback.print_exc()
        return 130
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def start(order: dict[str, Any]) -> int:
    """Fork a child for the command; its process id."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signals.SIGNALS)  # until the child listens
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.SIGNALS)
        return pid
    code = 1
    try:
        code = child(order)
        atexit._run_exitfuncs()
        logging.shutdown()
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(pid: int, seconds: float) -> int | None:
    """The child's exit code; None if it still runs."""
    end = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            return None
        time.sleep(0.005)


def main() -> None:
    """Answer orders until the pipe is closed."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for name in MODULES:
        importlib.import_module(name)
    print(json.dumps("ready"), file=answers)
    for line in sys.stdin:
        order = json.loads(line)
        answer = start(order["start"]) if "start" in order else wait(order["wait"], order["seconds"])
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
