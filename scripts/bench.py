"""Every speed claim of this project, measured: medians of interleaved rounds, ratios to named peers of the same run.

    python scripts/bench.py --quick                 a look in about two minutes: shorter epochs, 3 rounds
    python scripts/bench.py --full --json docs/bench.json     all rows, with every sample, for the README's table
    python scripts/bench.py --only population_16 --figure bench.png     one row, and its figure
    OMP_NUM_THREADS=1 taskset -c 0 python scripts/bench.py --cpu     on a machine that does other things too

Each contender is a process of its own (`scripts/peers/`), so that no thread pool or allocator is shared. A row's
contenders start up together; then each does its work once untimed, and a round runs every contender once, one after the
other, with nothing but the timed part timed. The order rotates from round to round; ratios are taken within a round.
Contenders whose packages are missing are named and left out (extra `bench`: jax, keras, tensorflow), and so are the
rows that need a GPU where there is none. A row written to FILE replaces that row's earlier numbers there; the figure
has all rows of FILE. MNIST is read from MLP_STUDY_DATA or data/, in torchvision's layout.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from peers.rows import ROWS, Contender, Row

HERE = Path(__file__).resolve().parent
COMMANDS = ("command", "sweep_overhead", "dry_run")  # peers that work in child processes
VERSIONS = ("mlp_study", "torch", "torchvision", "lightning", "numpy", "jax", "keras", "tensorflow")
PACKAGES = {  # whose versions stand beside a peer's numbers
    "torch_loop": ("torch",),
    "matmul": ("torch",),
    "floors": ("torch",),
    "jax_vmap": ("jax",),
    "keras_run": ("keras", "jax"),
    "keras_tensorflow": ("keras", "tensorflow"),
    "lightning_loader": ("lightning",),
}


class Worker:
    """A contender in its own process, which starts up at once; then it is told round by round to go."""

    def __init__(self, contender: Contender, *, cpu: bool = False) -> None:
        self.contender = contender
        self.seconds: list[float] = []
        self.report: dict[str, Any] = {}
        paths = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": paths}
        arguments = [sys.executable, __file__, "--worker", contender.module, json.dumps(contender.options)]
        arguments += ["--cpu"] * cpu
        self.process = subprocess.Popen(
            arguments, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.missing: str | None = None

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"missing": "it failed, see above"}

    def _ask(self, request: str) -> dict[str, Any]:
        assert self.process.stdin
        print(request, file=self.process.stdin, flush=True)
        return self._answer()

    def started(self) -> None:
        """Wait until it is ready for its first round, or says why there will be none."""
        self.missing = self._answer().get("missing")

    def run(self, *, timed: bool = True) -> None:
        """One more round."""
        if self.missing:
            return
        answer = self._ask("epoch")
        self.missing = answer.get("missing")
        if timed and not self.missing:
            self.seconds.append(answer["seconds"])

    def finish(self) -> None:
        """Accuracy after the first epoch and peak memory, then the end of the process."""
        if not self.missing:
            self.report = self._ask("report")
        self.process.communicate()


def work(module: str, options: dict[str, Any], *, cpu: bool) -> None:
    """The worker's side: prepare, then answer each request with one line of JSON."""
    if cpu and module not in COMMANDS:
        time.perf_counter = time.process_time  # before anything that reads the clock is imported
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints goes to stderr
    try:
        epoch, accuracy = importlib.import_module(f"peers.{module}").prepare(**options)
    except ImportError as error:
        print(json.dumps({"missing": str(error)}), file=answers)
        return
    learned = None
    print(json.dumps({}), file=answers)
    for request in sys.stdin:
        if request.strip() == "epoch":
            seconds = epoch()
            if accuracy and learned is None:
                learned = accuracy()
            print(json.dumps({"seconds": seconds}), file=answers)
        else:
            who = resource.RUSAGE_CHILDREN if module in COMMANDS else resource.RUSAGE_SELF
            peak = resource.getrusage(who).ru_maxrss / 1024
            print(json.dumps({"accuracy": learned, "peak_mb": peak}), file=answers)


def measure(row: Row, rounds: int, *, cpu: bool = False) -> list[Worker]:
    """All contenders of a row, each with its seconds in every round; ``cpu`` counts processor time."""
    workers = [Worker(contender, cpu=cpu) for contender in row.contenders]
    for worker in workers:
        worker.started()
    if row.warm_up:
        for worker in workers:
            worker.run(timed=False)
    for number in range(min(rounds, row.most_rounds)):
        here = number % len(workers)
        for worker in [*workers[here:], *workers[:here]]:
            time.sleep(0.1)  # let the other pools' threads fall asleep
            worker.run()
    for worker in workers:
        worker.finish()
    return workers


def verdict(ours: Worker, worker: Worker) -> tuple[str, str]:
    """(ours as a ratio to this peer: median and range over the rounds, the goal and whether it is met)."""
    theirs = {"seconds": worker.seconds, **asdict(worker.contender)}
    return judged(ours.seconds, theirs, alone=worker is ours)


def ratios_of(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Ours over theirs in each round; none if one of them has no rounds."""
    return [mine / other for mine, other in zip(ours, theirs, strict=True)] if ours and theirs else []


def judged(ours: Sequence[float], theirs: dict[str, Any], *, alone: bool) -> tuple[str, str]:
    """``verdict`` from a contender's record (``seconds``, ``goal``, ...); ``alone`` where no peer is to divide by."""
    goal, within, limit, apart = (theirs.get(claim) for claim in ("goal", "within", "limit", "apart"))
    ratios = [] if alone else ratios_of(ours, theirs["seconds"])
    ratio, wanted, met = "", "", None
    if ratios:
        ratio = f"{_plain(statistics.median(ratios))} [{_plain(min(ratios))}, {_plain(max(ratios))}]"
    if goal:
        wanted, met = f"<= {goal:.3g} x", ratios and statistics.median(ratios) <= goal
    elif within:
        wanted, met = f"within {within:.0%}", ratios and abs(statistics.median(ratios) - 1) <= within
    elif apart and ratios:
        more = statistics.median(mine - other for mine, other in zip(ours, theirs["seconds"], strict=True))
        ratio, wanted, met = f"{ratio}, {more:.2f} s more", f"<= {apart:g} s more", more <= apart
    elif limit:
        wanted, met = f"<= {limit:g} s", theirs["seconds"] and statistics.median(theirs["seconds"]) <= limit
    return ratio, wanted if met is None or met == [] else f"{wanted} {'yes' if met else 'NO'}"


def _plain(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio >= 0.095 else f"{ratio:.2g}"


def named(contender: dict[str, Any], about: dict[str, Any]) -> str:
    """A peer's label with the versions of what it is made of."""
    found = [f"{package} {about[package]}" for package in PACKAGES.get(contender["module"], ()) if package in about]
    return f"{contender['label']} ({', '.join(found)})" if found else contender["label"]


def markdown(record: dict[str, Any]) -> Iterator[str]:
    """The table of a file that ``--json`` wrote: every row with its peers, and the machines they ran on."""
    yield "| what | | median | ours / it: median [range] | goal | peak MB | n |"
    yield "|---|---|---|---|---|---|---|"
    machines: dict[str, None] = {}
    for name, row in record.items():
        contenders = [c for c in row["contenders"] if c["seconds"]]
        for i, c in enumerate(contenders):
            ratio, goal = judged(contenders[0]["seconds"], c, alone=i == 0)
            what = f"`{name}`, {row['unit']}" if i == 0 else ""
            label, median = named(c, row["machine"]), f"{statistics.median(c['seconds']):.3g}"
            yield f"| {what} | {label} | {median} | {ratio} | {goal} | {c['peak_mb']:.0f} | {len(c['seconds'])} |"
        machines[", ".join(f"{k} {v}" for k, v in row["machine"].items() if k != "load")] = None
    yield ""
    yield f"Measured on: {'; '.join(machines)}. n: paired rounds."


def lines(row: Row, workers: Sequence[Worker]) -> Iterator[str]:
    """The row as a table, one line a contender."""
    yield f"\n{row.name} ({row.unit}; ours / peer: median [min, max] of paired rounds)"
    yield f"  {'':50} {'median':>8} {'ours / it':>20}  {'goal':14} {'accuracy':>8} {'peak MB':>8}  n"
    for worker in workers:
        label = f"  {worker.contender.label:50}"
        if worker.missing:
            yield f"{label} left out: {worker.missing}"
            continue
        ratio, goal = verdict(workers[0], worker)
        accuracy = worker.report.get("accuracy")
        shown = "" if accuracy is None else f"{accuracy:.3f}"
        median, peak = statistics.median(worker.seconds), worker.report.get("peak_mb", 0.0)
        yield f"{label} {median:8.3g} {ratio:>20}  {goal:14} {shown:>8} {peak:8.0f}  {len(worker.seconds)}"


def gpu_here() -> str:
    """The first GPU's name, or nothing."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else ""


def machine() -> dict[str, Any]:
    """What the numbers depend on besides the code."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        cpu = models[0].partition(":")[2].strip() if models else cpu
    versions = {}
    for name in VERSIONS:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "missing"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = round(os.getloadavg()[0], 2)
    return {"cpu": cpu, "cores": cores, "load": load, "python": platform.python_version(), **versions}


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="about two minutes, 3 rounds (the default)")
    parser.add_argument("--full", action="store_true", help="all rows, 9 rounds")
    parser.add_argument(
        "--only", metavar="NAME", action="append", choices=[row.name for row in ROWS], help="this row alone"
    )
    parser.add_argument("--rounds", type=int, help="another number of rounds")
    parser.add_argument(
        "--cpu", action="store_true", help="processor time of in-process contenders instead of elapsed time"
    )
    parser.add_argument(
        "--json", metavar="FILE", type=Path, help="write every sample there, beside the rows that it has"
    )
    parser.add_argument(
        "--figure", metavar="FILE", type=Path, help="draw the rows of --json, or the measured ones, as PNG"
    )
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def chosen(asked: argparse.Namespace) -> list[Row]:
    """The rows that the command line asks for."""
    if asked.only:
        return [row for row in ROWS if row.name in asked.only]
    return [row for row in ROWS if (row.full if asked.full else row.quick)]


def main(argv: Sequence[str] | None = None) -> None:
    asked = arguments(argv)
    if asked.worker:
        work(asked.worker[0], json.loads(asked.worker[1]), cpu=asked.cpu)
        return
    began = time.monotonic()
    rounds = asked.rounds or (9 if asked.full else 3 if not asked.only else 5)
    about = machine()
    rows = chosen(asked)
    if any(row.gpu for row in rows):
        about |= {"gpu": gpu_here()}
        print("".join(f"{row.name} left out: no GPU here\n" for row in rows if row.gpu and not about["gpu"]), end="")
        rows = [row for row in rows if about["gpu"] or not row.gpu]
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    if about["load"] > 0.5 * (about["cores"] or 1):
        print("this machine is busy: the numbers below are not to be trusted, least of all PyTorch's")
    record: dict[str, Any] = json.loads(asked.json.read_text()) if asked.json and asked.json.exists() else {}
    for row in rows:
        workers = measure(row, rounds, cpu=asked.cpu)
        print("\n".join(lines(row, workers)), flush=True)
        found = [{**asdict(w.contender), "seconds": w.seconds, "missing": w.missing, **w.report} for w in workers]
        record[row.name] = {"unit": row.unit, "machine": about, "cpu time": asked.cpu, "contenders": found}
        if asked.json:
            asked.json.write_text(json.dumps(record, indent=1) + "\n")
    if asked.figure:
        from bench_figure import draw

        draw(record, asked.figure)
    print(f"\n{time.monotonic() - began:.0f} s; load at the end: {os.getloadavg()[0]:.2f} on {about['cores']} cores")


if __name__ == "__main__":
    main()
