"""Mutations of each kind of file that a command reads, and the commands that read it, all in one process.

A mutation is at fault if a command says anything but one clear line, takes more than ``PATIENCE`` seconds, or touches
a file outside the folder.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import itertools
import json
import os
import random
import shutil
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import yaml

from mlp_study import load_results, load_run, report, status, train
from mlp_study.config.composing import compose
from mlp_study.config.hydra_app import run_hydra
from mlp_study.config.schema import RunConfig
from mlp_study.diagnose import main as diagnose
from mlp_study.errors import StudyError
from mlp_study.reporting import page
from mlp_study.runtime.guard import guarded
from tests.reporting.synthetic_search import write_search
from tests.small_runs import logging_as_before
from tests.sweep.sweeps import SMALL

PATIENCE = 10.0  # seconds
FOLDERS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")  # may be anywhere
COSTLY = ("sweep",)  # after every tenth mutation only, where cheaper commands read the file, too
RUN = (*SMALL, "trainer.max_epochs=2")
HOSTILE: tuple[Any, ...] = (
    *(
        None,
        True,
        -1,
        0,
        10**400,
        -(10**30),
        1e308,
        float("nan"),
        float("inf"),
        "",
        "NaN",
        "\ud800",
        "\x1b[31m",
        "=1+1",
    ),
    *(
        "../../canary",
        "/dev/zero",
        "a" * 100_000,
        [],
        {},
        [[]],
        {"": None},
        {"name": []},
        ["a", 1],
        {"_target_": "os.mkdir"},
    ),
)
BYTES = (
    *(b"", b"\0", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b"null", b"[]", b"0", b'"\\ud800"', b"\x80" * 100),
    *(
        b"\n" * 1000,
        b",,,,\n" * 50,
        b'"',
        b"1e999",
        b"9" * 5000,
        b"&a [*a]",
        b"!!python/object/apply:os.mkdir [canary]",
    ),
)


class Hang(BaseException):
    """A command took too long."""


@dataclass(frozen=True)
class Kind:
    """A kind of file: where one lies in the base folder, and the commands that read it."""

    file: str
    commands: tuple[str, ...]


KINDS = {
    "result.json": Kind("sweep/RUN/result.json", ("results", "report", "status", "load", "history", "sweep")),
    "curves.csv": Kind("sweep/RUN/curves.csv", ("report", "load", "history")),
    "model.safetensors": Kind("sweep/RUN/model.safetensors", ("load", "history")),
    "sweep.json": Kind("sweep/sweep.json", ("status", "sweep")),
    "runs.csv": Kind("sweep/runs.csv", ("status", "sweep")),
    "runs.txt": Kind("sweep/.sweep/runs.txt", ("status", "sweep")),
    "lock": Kind("sweep/.sweep/locks/x.lock", ("status", "sweep")),
    "sweep's checkpoint": Kind("sweep/.sweep/checkpoints/x.safetensors", ("status", "sweep")),
    "multirun.yaml": Kind("sweep/multirun.yaml", ("report",)),
    "overrides.yaml": Kind("run/.hydra/overrides.yaml", ("resume",)),
    "checkpoint": Kind("run/checkpoint.safetensors", ("resume",)),
    "unfinished curves": Kind("run/curves.csv", ("resume",)),
    "reproduction.json": Kind("reproduction/reproduction.json", ("report_other",)),
    "search.json": Kind("search/search.json", ("report_search",)),
    "trials.csv": Kind("search/trials.csv", ("report_search",)),
    "importance.csv": Kind("search/importance.csv", ("report_search",)),
    "images": Kind("data/train-images-idx3-ubyte", ("idx",)),
    "labels": Kind("data/t10k-labels-idx1-ubyte.gz", ("idx",)),
}


@dataclass
class Tally:
    """What came of the mutations of one kind."""

    mutations: int = 0
    slowest: float = 0.0
    faults: list[str] = field(default_factory=list)


def make_base(top: Path) -> Path:
    """One of everything that commands read; returns the folder."""
    from mlp_study.errors import Interrupted
    from mlp_study.training import callbacks
    from tests.small_runs import trained
    from tests.training.test_resume import StopsAfter

    train_with("-m", *RUN, "save=all", "report=false", "activation=relu,tanh", "seed=0,1", f"sweep_dir={top / 'sweep'}")
    own = [*RUN, "trainer.max_epochs=4"]
    callbacks.CHECKPOINT_SHARE = 0
    config = RunConfig.from_dict(compose(own))
    (top / "run" / ".hydra").mkdir(parents=True)
    with contextlib.suppress(Interrupted):
        trained(config, listener=StopsAfter(1), checkpoint=top / "run" / "checkpoint.safetensors")
    assert (top / "run" / "checkpoint.safetensors").is_file()
    (top / "run" / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(own))
    run = next((top / "sweep").glob("*/result.json")).parent
    shutil.copy(run / "curves.csv", top / "run" / "curves.csv")
    (top / "sweep" / ".sweep" / "checkpoints").mkdir(exist_ok=True)
    shutil.copy(top / "run" / "checkpoint.safetensors", top / "sweep" / ".sweep" / "checkpoints" / "x.safetensors")
    locks = top / "sweep" / ".sweep" / "locks"
    owner = {
        "machine": "m",
        "pid": 1,
        "started": "1",
        "host": "h",
        "job": "",
        "restart": 0,
        "since": 0.0,
        "token": "abc",
    }
    (locks / "x.lock").write_text(json.dumps(owner))
    shutil.copytree(run, top / "reproduction" / "runs" / "x")
    claim = {"claim": "c", "experiment": "x", "words": "w", "case": "relu", "mean": 0.5, "n": 2, "verdict": "holds"}
    (top / "reproduction" / "reproduction.json").write_text(
        json.dumps({"seeds": 2, "overrides": [], "claims": [claim]})
    )
    write_search(top / "search", 8)
    write_images(top / "data")
    return top


def write_images(folder: Path) -> None:
    """Four IDX files of 40 images, the labels compressed."""
    folder.mkdir()
    for part in ("train", "t10k"):
        pixels = bytes(i % 251 for i in range(40 * 9))
        (folder / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">HBB3I", 0, 8, 3, 40, 3, 3) + pixels)
        labels = struct.pack(">HBBI", 0, 8, 1, 40) + bytes(i % 3 for i in range(40))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))


def train_with(*argv: str) -> None:
    """The command ``train`` in this process."""
    sys.argv = ["train", *argv]
    with logging_as_before():
        run_hydra(train.run, "train", "")


def command(name: str, top: Path, run: str) -> Callable[[], Any]:
    """What reads the folder, as a command would."""
    sweep, out = top / "sweep", f"output={top / 'page'}"
    readers: dict[str, Callable[[], Any]] = {
        "results": lambda: load_results(sweep),
        "load": lambda: load_run(sweep / run),
        "report": lambda: guarded(lambda: report.main([str(sweep), "figures=false", out])),
        "report_other": lambda: guarded(lambda: report.main([str(top / "reproduction"), "figures=false", out])),
        "report_search": lambda: guarded(lambda: report.main([str(top / "search"), "figures=false", out])),
        "status": lambda: guarded(lambda: status.main([str(sweep)])),
        "history": lambda: guarded(lambda: diagnose([f"run={sweep / run}"])),
        "sweep": lambda: train_with(
            "-m", *RUN, "save=all", "report=false", "activation=relu,tanh", "seed=0,1", f"sweep_dir={sweep}"
        ),
        "resume": lambda: train_with(f"resume={top / 'run'}"),
        "idx": lambda: train_with(
            *RUN,
            "data=idx",
            f"data.root={top / 'data'}",
            f"hydra.run.dir={top / 'out'}",
            "save=none",
            "data.limit=null",
        ),
    }
    return readers[name]


def mutate(path: Path, chance: random.Random) -> str:
    """Change the file; returns in words how."""
    content = path.read_bytes()
    way = chance.choice(["value", "value", "value", "bytes", "insert", "cut", "hostile", "repeat", "special"])
    if way == "special":
        return special(path, chance)
    if way == "value" and path.suffix in (".json", ".lock"):
        tree = json.loads(content)
        path.write_text(json.dumps(_replaced(tree, chance)))
        return "a value"
    place = chance.randrange(len(content) + 1)
    piece = chance.choice(BYTES)
    if way in ("value", "bytes"):
        some = bytearray(content)
        for _ in range(chance.choice((1, 3, 30))):
            some[chance.randrange(len(some))] = chance.randrange(256)
        content = bytes(some)
    elif way == "insert":
        content = content[:place] + piece + content[place:]
    elif way == "cut":
        content = content[:place]
    elif way == "repeat":
        content = content + content[place:] * 3
    else:
        content = piece
    path.write_bytes(content)
    return f"{way} at {place} {piece[:20]!r}"


def special(path: Path, chance: random.Random) -> str:
    """In its place a pipe, a device, a folder, a link or a huge file."""
    way = chance.choice(("pipe", "device", "folder", "link to nowhere", "link to itself", "huge"))
    path.unlink()
    if way == "pipe":
        os.mkfifo(path)
    elif way == "folder":
        path.mkdir()
    elif way == "huge":
        with path.open("wb") as file:
            file.truncate(2**33)
    else:
        path.symlink_to({"device": "/dev/zero", "link to itself": path.name}.get(way, path.parent / "nowhere"))
    return way


def _replaced(tree: Any, chance: random.Random) -> Any:
    """The tree with one node of it replaced, removed, or given a new name."""
    nodes = [(None, None), *_nodes(tree)]
    parent, key = chance.choice(nodes)
    value = chance.choice(HOSTILE)
    if parent is None:
        return value if chance.random() < 0.2 else _replaced(tree, chance) if nodes[1:] else value
    if chance.random() < 0.2 and isinstance(parent, dict):
        parent[str(chance.choice(("x", "=x", "../y", "\ud800")))] = parent.pop(key)
    elif chance.random() < 0.1:
        del parent[key]
    else:
        parent[key] = value
    return tree


def _nodes(tree: Any) -> Iterator[tuple[Any, Any]]:
    pairs = list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree)) if isinstance(tree, list) else []
    for key, value in pairs:
        yield tree, key
        yield from _nodes(value)


def fault_of(act: Callable[[], Any]) -> str:
    """What was wrong with the command's end; empty if nothing."""
    out, err = io.StringIO(), io.StringIO()

    def late(*_: Any) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, late)
    signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, PATIENCE)  # of the processors: the machine may be busy
    signal.setitimer(signal.ITIMER_REAL, 6 * PATIENCE)
    code: Any = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            act()
    except StudyError as error:
        return "" if "\n" not in str(error) else f"several lines: {error}"
    except SystemExit as end:
        code = end.code
    except Hang:
        return f"hangs\n{traceback.format_exc()[-1500:]}"
    except BaseException:
        return traceback.format_exc()[-1500:]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGALRM, before)
    said = err.getvalue()
    lines = [line for line in said.splitlines() if line.startswith("error:")]
    if "Traceback" in said or "shows where" in said or (code not in (0, None) and len(lines) != 1):
        return f"code {code}: {said[-1500:]}"
    return ""


def hydra_keys() -> list[str]:
    """Every key of the ``hydra`` node that Hydra itself has, and some beside them."""
    from hydra.conf import HydraConf
    from omegaconf import OmegaConf

    def paths(node: Any, above: str) -> Iterator[str]:
        for key in node:
            yield f"{above}.{key}"
            if OmegaConf.is_dict(inner := node._get_node(key)) and not inner._is_none():
                yield from paths(inner, f"{above}.{key}")

    more = (
        *(
            "hydra",
            "hydra.launcher._target_",
            "hydra.launcher.executor",
            "hydra.launcher.slurm",
            "hydra.sweeper.params",
        ),
        *(
            "hydra.launcher.slurm.setup",
            "hydra.sweeper._target_",
            "hydra.sweeper._recursive_",
            "hydra.job_logging.root",
        ),
        *("hydra.job_logging.handlers", "hydra.job_logging.handlers.file.filename", "hydra.callbacks.x", "hydra.x"),
    )
    return [*paths(OmegaConf.structured(HydraConf), "hydra"), *more]


def hostile_nodes(canary: Path) -> list[Any]:
    """What each key is set to."""
    made = {"_target_": "os.mkdir", "path": str(canary)}
    factory = {"handlers": {"x": {"()": "os.mkdir", "path": str(canary)}}, "root": {"handlers": ["x"]}, "version": 1}
    return [
        made,
        {"x": made},
        factory,
        [made],
        "${experiment.evil}",
        str(canary),
        "../../x",
        {"PATH": "x"},
        None,
        10**400,
    ]


def fuzz_hydra(work: Path, keys: list[str], ways: tuple[str, ...] = ("override", "yaml", "folder")) -> Tally:
    """Set each key to each hostile value by each way, and train; nothing may come of it but one line or a run.

    Args:
        work: an empty folder.
        keys: as ``hydra_keys`` lists them.
        ways: how a config reaches the command.
    """
    tally, canary, place = Tally(), work / "canary", work / "c"
    (place / "experiment").mkdir(parents=True)
    (place / "run" / ".hydra").mkdir(parents=True)
    for key, node, way in itertools.product(keys, hostile_nodes(canary), ways):
        words = hydra_words(place, canary, key, node, way)
        flags = ["-m", "seed=0"] if tally.mutations % 2 and way != "folder" else []
        began, before = time.monotonic(), dict(os.environ)
        with contextlib.chdir(place):
            fault = fault_of(partial(train_with, *flags, *words))
        touched = canary.exists() and key not in FOLDERS
        if fault or touched or dict(os.environ) != before:
            tally.faults.append(f"{way} {key}={node}: {fault or 'it has touched something'}")
        shutil.rmtree(canary, ignore_errors=True)
        tally.slowest = max(tally.slowest, time.monotonic() - began)
        tally.mutations += 1
    return tally


def hydra_words(place: Path, canary: Path, key: str, node: Any, way: str) -> list[str]:
    """A command line that sets the key to the node, by itself or through a file in ``place``."""
    one = [*SMALL, "trainer.max_epochs=1", "save=none"]
    override, evil = f"++{key}={_grammar(node)}", {"cb": {"_target_": "os.mkdir", "path": str(canary)}}
    if way == "override":
        return [*one, f"++experiment.evil={_grammar(evil)}", override]
    if way == "folder":
        (place / "run" / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump([*one, override]))
        return [f"resume={place / 'run'}"]
    tree: Any = node
    for part in reversed(key.split(".")):
        tree = {part: tree}
    text = yaml.safe_dump({**tree, "experiment": {"name": "x", "evil": evil}})
    (place / "experiment" / "evil.yaml").write_text(f"# @package _global_\n{text}")
    return ["--config-dir", str(place), "+experiment=evil", *one]


def _grammar(node: Any) -> str:
    if isinstance(node, dict):
        return "{" + ",".join(f"{key}:{_grammar(value)}" for key, value in node.items()) + "}"
    if isinstance(node, list):
        return "[" + ",".join(map(_grammar, node)) + "]"
    return "null" if node is None else str(node)


def fuzz(base: Path, work: Path, kind: str, count: int, seed: int = 0) -> Tally:
    """Try ``count`` mutations of a kind of file, each followed by the commands that read it.

    Args:
        base: as ``make_base`` has made it; it stays as it is.
        work: an empty folder for copies.
        kind: of ``KINDS``.
        count: mutations.
        seed: of the mutations.
    """
    page.compressed = cache(page.compressed)  # of Plotly, half a second each time
    tally, run = Tally(), next((base / "sweep").glob("*/result.json")).parent.name
    for number in range(count):
        chance, top = random.Random(f"{kind} {seed} {number}"), work / "copy"
        part = KINDS[kind].file.partition("/")[0]
        shutil.copytree(base / part, top / part)
        did = mutate(top / KINDS[kind].file.replace("RUN", run), chance)
        outside = sorted(work.iterdir())
        for name in KINDS[kind].commands:
            if name in COSTLY and number % 10 and len(KINDS[kind].commands) > 1:
                continue
            began = time.monotonic()
            if fault := fault_of(command(name, top, run)):
                tally.faults.append(f"{kind} {number} ({did}), {name}: {fault}")
            tally.slowest = max(tally.slowest, time.monotonic() - began)
        if sorted(work.iterdir()) != outside or (base / "canary").exists():
            tally.faults.append(f"{kind} {number} ({did}): something was written outside")
        tally.mutations += 1
        shutil.rmtree(top)
    return tally
