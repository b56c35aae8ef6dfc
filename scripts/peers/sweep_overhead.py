"""What a sweep costs for each run besides training: networks of one unit that see a handful of images once."""

from __future__ import annotations

from collections.abc import Callable

from peers import command

# Next to nothing to train, everything to compose, record and track: folder, result, curves, model, offline W&B run.
TINY = "-m mlp_study.train -m data=digits data.limit=32 data.batch_size=full model.widths=[1] trainer.max_epochs=1"


def prepare(runs: int) -> tuple[Callable[[], float], None]:
    """(run a sweep of one and a sweep of ``runs``, return the difference for each further run, no accuracy)."""

    def seconds(count: int) -> float:
        arguments = [*TINY.split(), f"seed=range(0,{count})", "sweep_dir=sweep"]
        return command.prepare(arguments)[0]()

    seconds(2)  # fills the file cache

    def overhead() -> float:
        alone = seconds(1)
        return (seconds(runs) - alone) / (runs - 1)

    return overhead, None
