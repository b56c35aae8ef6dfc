"""Signals during a sweep: what is finished is written, then the sweep ends."""

from __future__ import annotations

from typing import Any, Self

from lightning.pytorch import Callback

from mlp_study.runtime import signals


class Interruption(Callback):
    """Defers signals while a sweep works; training answers them itself."""

    def __init__(self, passed_on: Any = None) -> None:
        self._passed_on = passed_on

    def __enter__(self) -> Self:
        self._deferred = signals.deferred(self._passed_on)
        self._deferred.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._deferred.__exit__(*exception)

    def raise_if_asked(self) -> None:
        """Raise ``Interrupted``, or ``Preempted``, after a signal."""
        signals.raise_if_asked()
