"""The process for side work: where it may run while its parent starts."""

from __future__ import annotations

import contextlib
import os
import sys

import pytest

from mlp_study.runtime.companion import Companion, giving_way, serve_with

needs_cores = pytest.mark.skipif(
    sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2, reason="one core, or a system without affinities"
)


def serve() -> None:
    """A companion that tells its cores, before and after what it does in a block of ``giving_way``."""

    def handle(message, reply) -> None:
        seen = [sorted(os.sched_getaffinity(0))]
        with contextlib.suppress(ImportError), giving_way() if message["single"] else contextlib.nullcontext():
            seen.append(sorted(os.sched_getaffinity(0)))
            if message["fails"]:
                raise ImportError("no such module")
        reply({"seen": [*seen, sorted(os.sched_getaffinity(0))]})

    serve_with(handle, lambda _: None, nice=0)


@needs_cores
@pytest.mark.parametrize(("single", "fails"), [(True, False), (True, True), (False, False)])
def test_a_single_runs_companion_leaves_a_core_to_its_parents_imports(single, fails):
    ours = sorted(os.sched_getaffinity(0))
    replies: list[dict] = []
    companion = Companion(__name__, replies.append, lambda why: None, aside=single)
    assert sorted(os.sched_getaffinity(0)) == ours, "the parent may be everywhere again"
    companion.send({"single": single, "fails": fails})
    assert companion.close(60)
    [reply] = replies
    before, within, after = reply["seen"]
    assert before == within
    assert len(before) == len(ours) - single
    assert set(before) <= set(ours)
    assert after == ours


@needs_cores
def test_a_system_that_lets_nobody_choose_cores_has_companions_too(monkeypatch):
    def refuse(pid: int, cores: set[int]) -> None:
        raise PermissionError("not here")

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    replies: list[dict] = []
    companion = Companion(__name__, replies.append, lambda why: None, aside=True)
    companion.send({"single": True, "fails": False})
    assert companion.close(60)
    assert len(replies) == 1
