"""Which claims are measured, against which peers, and what each should reach."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Contender:
    """One way to do a row's work: ``peers.<module>.prepare(**options)``.

    Attributes:
        goal: the row's first contender should take at most this many times this contender's time.
        limit: it should itself take at most this many seconds.
    """

    label: str
    module: str
    options: dict[str, Any] = field(default_factory=dict)
    goal: float | None = None
    limit: float | None = None


@dataclass(frozen=True)
class Row:
    """One claim: the first contender is ours, the others are its peers. ``most_rounds`` bounds what takes long."""

    name: str
    unit: str
    contenders: tuple[Contender, ...]
    quick: bool = False
    most_rounds: int = 100


def population(members: int, *, quick: bool) -> Row:
    """``members`` networks trained together, against one at a time, against JAX and against the arithmetic alone."""
    contenders = (
        Contender(f"mlp_study K={members}", "ours", {"members": members}),
        Contender("PyTorch loop, one network", "torch_loop", goal=0.5),
        Contender(f"JAX jit(scan(vmap)) K={members}", "jax_vmap", {"members": members}, goal=0.8),
        Contender(f"matrix products K={members}", "matmul", {"members": members}, goal=1.3),
    )
    return Row(f"population_{members}", "s per epoch and member", contenders, quick)


def command(label: str, *arguments: str, limit: float | None = None) -> Contender:
    return Contender(label, "command", {"arguments": list(arguments)}, limit=limit)


def overhead(runs: int, *, quick: bool, most_rounds: int) -> Row:
    """What a sweep costs for each run besides its training."""
    ours = Contender(f"a sweep of {runs} runs", "sweep_overhead", {"runs": runs}, limit=0.025)
    return Row(f"overhead_{runs}", "s per run beyond start-up and training", (ours,), quick, most_rounds)


def pruning(name: str, unit: str, count: str, rounds: int) -> Row:
    """The same 64 trials on the digits with and without a pruner."""
    contenders = (
        Contender("64 trials, median pruner", "pruning", {"pruner": "median", "count": count}),
        Contender("64 trials, none given up", "pruning", {"pruner": "none", "count": count}),
    )
    return Row(name, unit, contenders, most_rounds=rounds)


def probes_cost(data: str) -> Row:
    """What the probes that are on by default add to a run."""
    contenders = (
        Contender("default probes", "ours", {"probes": True, "data": data}),
        Contender("no probes", "ours", {"probes": False, "data": data}, goal=1.1),
    )
    return Row("probes_cost", "s a run of 5 epochs", contenders)


def shape(name: str, members: int, widths: tuple[int, ...], batch: int) -> Row:
    """A tenth of MNIST through networks of another shape, over the arithmetic's own time: flat, or to be explained."""
    sizes = "-".join(map(str, (784, *widths, 10)))
    more = [f"model.widths={list(widths)}".replace(" ", ""), f"data.batch_size={batch}", "data.limit=6000"]
    contenders = (
        Contender(f"K={members} of {sizes}, batch {batch}", "ours", {"members": members, "more": more}),
        Contender(
            "matrix products",
            "matmul",
            {"members": members, "widths": widths, "batch": batch, "images": 6_000},
        ),
    )
    return Row(f"shape_{name}", "s per epoch of 6,000 images and member", contenders)


def foretold(grid: str) -> Row:
    """A sweep against the time that ``dry_run`` foretells."""
    contenders = (
        Contender("from the plan to the end", "dry_run", {"grid": grid, "predicted": False}),
        Contender("what dry_run says", "dry_run", {"grid": grid, "predicted": True}),
    )
    return Row(f"cost_model_{grid}", "s", contenders, most_rounds=3)


DIGITS = ("-m", "mlp_study.train", "activation=relu", "data=digits")

WIDTHS = {16: 64, 100: 16, 512: 8, 2048: 2}  # and how many members

ROWS = (
    Row(
        "single",
        "s per epoch",
        (
            Contender("mlp_study K=1", "ours"),
            Contender("PyTorch loop", "torch_loop", goal=1.1),
            Contender("Keras on JAX", "keras_run", goal=1.0),
        ),
        quick=True,
    ),
    Row(
        "single_more_peers",
        "s per epoch",
        (
            Contender("mlp_study K=1", "ours"),
            Contender("Keras on TensorFlow", "keras_tensorflow", goal=0.3),
            Contender("Lightning, DataLoader over tensors", "lightning_loader"),
            Contender("Lightning, DataLoader, torchvision", "lightning_loader", {"torchvision": True}, goal=0.03),
            Contender("Keras on JAX, 50 steps per execution", "keras_run", {"steps_per_execution": 50}),
            Contender("JAX jit(scan)", "jax_vmap"),
            Contender("matrix products", "matmul"),
        ),
    ),
    population(16, quick=True),
    population(64, quick=False),
    Row(
        "own_minibatches_16",
        "s per epoch and member",
        (
            Contender("mlp_study K=16, a seed each", "ours", {"members": 16, "shared": False}),
            Contender("PyTorch loop, one network", "torch_loop"),
            Contender("JAX jit(scan(vmap)) K=16, the same", "jax_vmap", {"members": 16, "shared": False}),
        ),
    ),
    Row(
        "mixed_180",
        "s per epoch of 6,000 images and member",
        (
            Contender("3 activations x 4 scales x 3 optimizers x 5 seeds", "ours", {"mixed": True}),
            Contender("180 alike, 5 seeds", "ours", {"mixed": False}, goal=1.2),
        ),
    ),
    Row(
        "bf16",
        "s per epoch and member",
        (
            Contender("K=64, bfloat16 products", "ours", {"members": 64, "more": ["trainer.precision=bf16"]}),
            Contender("K=64, float32", "ours", {"members": 64}, goal=0.5),
        ),
    ),
    *(shape(f"width_{width}", members, (width,), 100) for width, members in WIDTHS.items()),
    *(shape(f"depth_{depth}", 16, (100,) * depth, 100) for depth in (2, 4, 8)),
    *(shape(f"batch_{batch}", 16, (100,), batch) for batch in (32, 1_000, 6_000)),
    foretold("digits"),
    foretold("mnist"),
    probes_cost("mnist"),
    Row(
        "help",
        "s",
        (
            command("python -m mlp_study.train --help", "-m", "mlp_study.train", "--help", limit=2.5),
            command("python -c pass", "-c", "pass"),
        ),
        quick=True,
    ),
    Row(
        "first_run",
        "s",
        (
            command("first run on digits", *DIGITS, limit=10.0),
            command("the same without W&B, model, figures", *DIGITS, "wandb.mode=disabled", "save=none"),
            command("importing torch and lightning", "-c", "import torch, lightning"),
        ),
        quick=True,
    ),
    Row(
        "ask_tell",
        "s a trial",
        (
            Contender("1,000 trials, TPE, 8 at a time, journal", "ask_tell", {"trials": 1_000}, limit=0.02),
            Contender("1,000 trials, random", "ask_tell", {"trials": 1_000, "sampler": "random"}, limit=0.02),
            Contender(
                "1,000 trials, TPE, median pruner", "ask_tell", {"trials": 1_000, "pruner": "median"}, limit=0.02
            ),
        ),
        most_rounds=3,
    ),
    pruning("pruning", "s a search", "seconds", 5),
    pruning("pruning_epochs", "epochs trained in a search", "epochs", 1),
    overhead(10, quick=False, most_rounds=5),
    overhead(100, quick=False, most_rounds=3),
    overhead(1_000, quick=False, most_rounds=3),
    overhead(10_000, quick=False, most_rounds=1),
)
