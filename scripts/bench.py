"""Every speed claim of this project, measured: medians of interleaved rounds, ratios to named peers of the same run.

    python scripts/bench.py --quick                 the rows that take a minute
    python scripts/bench.py --full --json docs/bench.json     all rows, with every sample, for the README's table
    python scripts/bench.py --only population_16
    OMP_NUM_THREADS=1 taskset -c 0 python scripts/bench.py --cpu     on a machine that does other things too

Each contender is a process of its own (`scripts/peers/`), prepared and warmed up before the first round, so that no
thread pool or allocator is shared and nothing but the timed part is timed. A round runs every contender once; the order
rotates from round to round; ratios are taken within a round. Contenders whose packages are missing are named and left
out (extra `bench`: jax, keras, tensorflow). A row written to FILE replaces that row's earlier numbers there. MNIST is
read from MLP_STUDY_DATA or data/, in torchvision's layout.
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
VERSIONS = ("mlp_study", "torch", "lightning", "numpy", "jax", "keras", "tensorflow")


class Worker:
    """A contender in its own process, told round by round to go."""

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
        self.missing: str | None = self._answer().get("missing")

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"missing": "it failed, see above"}

    def _ask(self, request: str) -> dict[str, Any]:
        assert self.process.stdin
        print(request, file=self.process.stdin, flush=True)
        return self._answer()

    def run(self) -> None:
        """One more timed round."""
        answer = self._ask("epoch")
        self.missing = answer.get("missing")
        if not self.missing:
            self.seconds.append(answer["seconds"])

    def finish(self) -> None:
        """Accuracy after the first epoch and peak memory, then the end of the process."""
        if not self.missing:
            self.report = self._ask("report")
        self.process.communicate()


def work(module: str, options: dict[str, Any], *, cpu: bool) -> None:
    """The worker's side: prepare, warm up, then answer each request with one line of JSON."""
    if cpu and module not in COMMANDS:
        time.perf_counter = time.process_time  # before anything that reads the clock is imported
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints goes to stderr
    try:
        epoch, accuracy = importlib.import_module(f"peers.{module}").prepare(**options)
    except ImportError as error:
        print(json.dumps({"missing": str(error)}), file=answers)
        return
    epoch()
    learned = accuracy() if accuracy else None
    print(json.dumps({}), file=answers)
    for request in sys.stdin:
        if request.strip() == "epoch":
            print(json.dumps({"seconds": epoch()}), file=answers)
        else:
            who = resource.RUSAGE_CHILDREN if module in COMMANDS else resource.RUSAGE_SELF
            peak = resource.getrusage(who).ru_maxrss / 1024
            print(json.dumps({"accuracy": learned, "peak_mb": peak}), file=answers)


def measure(row: Row, rounds: int, *, cpu: bool = False) -> list[Worker]:
    """All contenders of a row, each with its seconds in every round; ``cpu`` counts processor time."""
    workers = [Worker(contender, cpu=cpu) for contender in row.contenders]
    for number in range(min(rounds, row.most_rounds)):
        here = number % len(workers)
        for worker in [*workers[here:], *workers[:here]]:
            if not worker.missing:
                time.sleep(0.1)  # let the other pools' threads fall asleep
                worker.run()
    for worker in workers:
        worker.finish()
    return workers


def verdict(ours: Worker, worker: Worker) -> tuple[str, str]:
    """(ours as a ratio to this peer: median and range over the rounds, the goal and whether it is met)."""
    return judged(ours.seconds, worker.seconds, worker.contender.goal, worker.contender.limit, alone=worker is ours)


def judged(
    ours: Sequence[float], theirs: Sequence[float], goal: float | None, limit: float | None, *, alone: bool
) -> tuple[str, str]:
    """``verdict`` from the rounds' numbers; ``alone`` where there is no peer to divide by."""
    ratio, met = "", None
    if not alone and ours and theirs:
        ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
        ratio = f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
        met = goal and statistics.median(ratios) <= goal
    if limit and theirs:
        met = statistics.median(theirs) <= limit
    wanted = f"<= {goal} x" if goal else f"<= {limit} s" if limit else ""
    return ratio, wanted if met is None or not wanted else f"{wanted} {'yes' if met else 'NO'}"


def markdown(record: dict[str, Any]) -> Iterator[str]:
    """The table of a file that ``--json`` wrote: every row with its peers, and the machines they ran on."""
    yield "| what | | median | ours / it: median [range] | goal | peak MB | n |"
    yield "|---|---|---|---|---|---|---|"
    machines: dict[str, None] = {}
    for name, row in record.items():
        contenders = [c for c in row["contenders"] if c["seconds"]]
        for i, c in enumerate(contenders):
            ratio, goal = judged(contenders[0]["seconds"], c["seconds"], c["goal"], c["limit"], alone=i == 0)
            what = f"`{name}`, {row['unit']}" if i == 0 else ""
            median = f"{statistics.median(c['seconds']):.3g}"
            yield f"| {what} | {c['label']} | {median} | {ratio} | {goal} | {c['peak_mb']:.0f} | {len(c['seconds'])} |"
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
        yield f"{label} {median:8.3f} {ratio:>20}  {goal:14} {shown:>8} {peak:8.0f}  {len(worker.seconds)}"


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
    parser.add_argument("--quick", action="store_true", help="the rows that take a minute, 5 rounds (the default)")
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
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    asked = arguments(argv)
    if asked.worker:
        work(asked.worker[0], json.loads(asked.worker[1]), cpu=asked.cpu)
        return
    rows = [row for row in ROWS if (row.name in asked.only if asked.only else asked.full or row.quick)]
    rounds = asked.rounds or (9 if asked.full else 5)
    about = machine()
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
    print(f"\nload at the end: {os.getloadavg()[0]:.2f} on {about['cores']} cores")


if __name__ == "__main__":
    main()
