"""The command as several workers, and as one that dies where it is told to.

python -m tests.search.worker ROUNDS ARGUMENTS...: ROUNDS is JSON, for each round the workers that begin together, for
each of them nothing ("") or the call before which it is killed as by a power cut, such as
``mlp_study.search.shared_study:SharedStudy.tell#3``. All imports are made once: each worker is a fork. Prints how
they ended.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import signal
import sys

from mlp_study import train
from mlp_study.config.hydra_app import run_hydra
from mlp_study.search.shared_study import SharedStudy


def kill_before(call: str) -> None:
    """Let the process die at this call."""
    module, name, last = call.replace("#", ":").split(":")
    kind, method = getattr(importlib.import_module(module), name.split(".")[0]), name.split(".")[1]
    whole, left = getattr(kind, method), [int(last)]

    @functools.wraps(whole)
    def dying(*args, **kwargs):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(*args, **kwargs)

    setattr(kind, method, dying)


def ask_after(end: int) -> None:
    """Let the process ask for its first trials when nobody can write to the pipe any more: who had it is dead."""
    whole = SharedStudy.ask

    def waiting(study):
        os.read(end, 1)
        return whole(study)

    SharedStudy.ask = waiting


def worker(call: str, alive: tuple[int, int]) -> int:
    """A process of its own that runs the command; its number. Those that live see first what the dead have left."""
    number = os.fork()
    if number == 0:
        if call:
            kill_before(call)
        else:
            os.close(alive[1])
            ask_after(alive[0])
        run_hydra(train.run, "train", "")
        sys.stdout.flush()
        os._exit(0)
    return number


def main() -> None:
    rounds, *arguments = sys.argv[1:]
    sys.argv = ["train", *arguments]
    for heavy in ("optuna.importance", "search.sweeper", "training.population", "search.optuna_plots"):
        importlib.import_module(heavy if heavy.startswith("optuna") else f"mlp_study.{heavy}")
    ended = []
    for calls in json.loads(rounds):
        alive = os.pipe()
        numbers = [worker(call, alive) for call in calls]
        os.close(alive[1])
        ended.append([os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) for number in numbers])
    print("ended", json.dumps(ended))


if __name__ == "__main__":
    main()
