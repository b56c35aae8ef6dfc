"""The call: ``mlp_study.diagnose(model, loss, optimizer, data)``."""

from __future__ import annotations

import functools
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor, nn

from mlp_study.doctor.diagnosis import Diagnosis
from mlp_study.doctor.examine import examined
from mlp_study.doctor.given import training_of
from mlp_study.doctor.untouched import untouched
from mlp_study.errors import ConfigError

OLD = "diagnose(model, x, y, lr=...) goes with the next release; write diagnose(model, loss, optimizer, (x, y), lr=...)"


def _also_the_old_way(diagnose: Callable[..., Diagnosis]) -> Callable[..., Diagnosis]:
    """Take ``diagnose(model, x, y, lr=...)`` for one release more."""

    @functools.wraps(diagnose)
    def either(*args: Any, **options: Any) -> Diagnosis:
        if len(args) >= 2 and (isinstance(args[1], (Tensor, np.ndarray)) or hasattr(args[1], "to_numpy")):
            warnings.warn(OLD, DeprecationWarning, stacklevel=2)
            model, x, y, *rest = args
            loss, optimizer = options.pop("loss", "cross_entropy"), options.pop("optimizer", "sgd")
            return diagnose(model, loss, optimizer, (x, y), lr=options.pop("lr", rest[0] if rest else None),
                            batch_size=options.pop("batch_size", 32), epochs=options.pop("epochs", 10))  # fmt: skip
        return diagnose(*args, **options)

    return either


@_also_the_old_way
def diagnose(
    model: nn.Module,
    loss: Any = None,
    optimizer: Any = None,
    data: Any = None,
    *,
    epochs: int = 10,
    batch_size: int | str | None = None,
    shuffle: bool = True,
    lr: float | None = None,
    step: Callable[[nn.Module, Any], Any] | None = None,
    budget: float = 30.0,
    seed: int = 0,
    progress: bool | None = None,
    learning_rate: float | None = None,
) -> Diagnosis:
    """Say whether a training will succeed, why not, and what would mend it.

    Your training is run on copies of your objects: your forward, loss, optimizer, batches and order. Nothing of yours
    is changed: weights, buffers, gradients, the optimizer's state, random states, modes and devices stay as they are.
    Where it fails, changes are tried on further copies; those that help are in ``fixes``, with the Python that was run.

        d = mlp_study.diagnose(model, nn.CrossEntropyLoss(), optimizer, loader, epochs=10)
        print(d)  # verdict, reason, best fix, details
        d.fixes[0].apply().fit().predict(x)  # copies with the fix in place

    Success is skill: accuracy above the largest class's share, or the explained variance, of at least 0.8 of what a
    plain model or the best fix reaches on the same data. One answer for everything has a skill of 0.

    Args:
        model: any ``nn.Module``, compiled or not; a ``LightningModule`` brings its own loss and optimizer.
        loss: ``loss(output, target)`` -> scalar, such as ``nn.CrossEntropyLoss()``; or a name, such as ``"mse"``.
        optimizer: of ``torch.optim`` with your parameter groups; or a name, such as ``"adam"``, with ``lr``.
        data: a DataLoader, a Dataset, or ``(x, y)`` of tensors, arrays, DataFrames or Series.
        epochs: how long you train.
        batch_size: of minibatches, or ``"full"``; 32 if None. A DataLoader brings its own.
        shuffle: whether you shuffle the examples each epoch. A DataLoader brings its own.
        lr: the learning rate, for an optimizer that is given by name.
        step: ``step(model, batch)`` -> loss, in the place of ``loss``, for trainings of another form.
        budget: seconds of computing that all of it may take.
        seed: of orders and dropout on the copies.
        progress: whether a line on stderr says what is being done; where somebody looks, if None.
        learning_rate: Keras's name of ``lr``.

    Raises:
        ConfigError: an argument is missing or none of what is taken; several optimizers, as in a GAN.
        DataError: data that can be read only once, or that the model does not take.
    """
    if not budget > 0:
        raise ConfigError(f"budget={budget!r} is not valid; it takes a number of seconds above 0")
    if data is None and loss is not None and not callable(loss) and not isinstance(loss, str):
        loss, data = None, loss  # diagnose(lightning_module, loader)
    with untouched(model), _Progress(progress) as told:
        training, notes = training_of(
            model, loss, optimizer, data, epochs=epochs, batch_size=batch_size, shuffle=shuffle,
            lr=learning_rate if lr is None else lr, step=step, seed=seed,
        )  # fmt: skip
        return examined(training, notes, budget, told)


class _Progress:
    """One line on stderr that says what is being done, from the third second on."""

    def __init__(self, wanted: bool | None) -> None:
        self.wanted = sys.stderr.isatty() if wanted is None else wanted
        self.began = time.perf_counter()
        self.shown = False

    def __enter__(self) -> _Progress:
        return self

    def __call__(self, what: str) -> None:
        """Show what is being done."""
        passed = time.perf_counter() - self.began
        if self.wanted and passed > 2:
            self.shown = True
            sys.stderr.write(f"\r{passed:4.0f} s  {what[:60]:<60}")
            sys.stderr.flush()

    def __exit__(self, *error: object) -> None:
        if self.shown:
            sys.stderr.write("\r" + " " * 70 + "\r")
