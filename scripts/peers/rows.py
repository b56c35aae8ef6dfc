"""Which claims are measured, against which peers, and what each should reach."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from peers.mnist import IMAGES, root


@dataclass(frozen=True)
class Contender:
    """One way to do a row's work: ``peers.<module>.prepare(**options)``.

    Attributes:
        goal: the row's first contender should take at most this many times this contender's time.
        within: the first contender's time should be within this part of this contender's, either way.
        limit: it should itself take at most this many seconds.
        apart: the first contender should take at most this many seconds more than this one.
    """

    label: str
    module: str
    options: dict[str, Any] = field(default_factory=dict)
    goal: float | None = None
    within: float | None = None
    limit: float | None = None
    apart: float | None = None


@dataclass(frozen=True)
class Row:
    """One claim: the first contender is ours, the others are its peers, and all do the same work.

    Attributes:
        quick: whether ``--quick`` runs it.
        full: whether ``--full`` runs it; a row that neither does is there for ``--only``.
        most_rounds: bounds what takes long.
        warm_up: whether each contender does its work once untimed before the first round.
        gpu: whether it needs one.
    """

    name: str
    unit: str
    contenders: tuple[Contender, ...]
    quick: bool = False
    full: bool = True
    most_rounds: int = 100
    warm_up: bool = True
    gpu: bool = False


QUICK_IMAGES = 30_000  # of an epoch in the rows that only --quick runs


def single(*, quick: bool) -> Row:
    """One network, against the loop and the library that its user would write."""
    part = {"images": QUICK_IMAGES} if quick else {}
    contenders = (
        Contender("mlp_study K=1", "ours", part),
        Contender("PyTorch loop", "torch_loop", part, goal=1.1),
        Contender("Keras on JAX", "keras_run", part, goal=0.8),
    )
    name, epoch = ("quick_single", f"epoch of {QUICK_IMAGES:,} images") if quick else ("single", "epoch")
    return Row(name, f"s per {epoch}", contenders, quick=quick, full=not quick)


def population(members: int, *, jax: float, products: float, quick: bool = False) -> Row:
    """``members`` networks trained together, against one at a time, against JAX and against the arithmetic alone.

    ``jax`` and ``products`` are the goals.
    """
    part = {"images": QUICK_IMAGES} if quick else {}
    together = {"members": members, **part}
    contenders = (
        Contender(f"mlp_study K={members}", "ours", together),
        Contender("PyTorch loop, one network", "torch_loop", part, goal=0.5),
        Contender(f"JAX jit(scan(vmap)) K={members}", "jax_vmap", together, goal=jax),
        Contender(f"matrix products K={members}", "matmul", together, goal=products),
    )
    name, epoch = ("quick_population", f"epoch of {QUICK_IMAGES:,} images") if quick else ("population", "epoch")
    return Row(f"{name}_{members}", f"s per {epoch} and member", contenders, quick=quick, full=not quick)


def command(label: str, *arguments: str, limit: float | None = None, apart: float | None = None) -> Contender:
    return Contender(label, "command", {"arguments": list(arguments)}, limit=limit, apart=apart)


def overhead(runs: int, *, limit: float, most_rounds: int) -> Row:
    """What a sweep costs for each run besides its training."""
    ours = Contender(f"a sweep of {runs:,} runs", "sweep_overhead", {"runs": runs}, limit=limit)
    unit = "s per run beyond start-up and training"
    return Row(f"overhead_{runs}", unit, (ours,), most_rounds=most_rounds, warm_up=False)


def pruning(name: str, unit: str, count: str, rounds: int) -> Row:
    """The same 64 trials on the digits with and without a pruner."""
    contenders = (
        Contender("64 trials, median pruner", "pruning", {"pruner": "median", "count": count}),
        Contender("64 trials, none given up", "pruning", {"pruner": "none", "count": count}),
    )
    return Row(name, unit, contenders, most_rounds=rounds, warm_up=rounds > 1)


def probes_cost(data: str, epochs: int = 5, name: str = "probes_cost") -> Row:
    """What the probes that are on by default add to a run: less to a longer one, as two looks are at its ends."""
    about = {"data": data, "epochs": epochs}
    contenders = (
        Contender("default probes", "whole_run", {"probes": True, **about}),
        Contender("no probes", "whole_run", {"probes": False, **about}, goal=1.1),
    )
    return Row(name, f"s a run of {epochs} epochs", contenders)


def watched() -> Row:
    """What ``mlp_study.watch`` adds to a person's own step."""
    contenders = (
        Contender("a PyTorch loop of 784-512-512-10, watched", "watched_loop", {"watched": True}),
        Contender("the same, not watched", "watched_loop", {"watched": False}, goal=1.03),
    )
    return Row("watch", "s a step", contenders)


def shape(name: str, members: int, widths: tuple[int, ...], batch: int) -> Row:
    """A tenth of MNIST through networks of another shape, over the arithmetic's own time: flat, or to be explained."""
    sizes = "-".join(map(str, (784, *widths, 10)))
    more = [f"model.widths={list(widths)}".replace(" ", ""), f"data.batch_size={batch}"]
    alike = {"members": members, "images": PART}
    contenders = (
        Contender(f"K={members} of {sizes}, batch {batch}", "ours", {**alike, "more": more}),
        Contender("matrix products", "matmul", {**alike, "widths": widths, "batch": batch}),
    )
    return Row(f"shape_{name}", f"s per epoch of {PART:,} images and member", contenders)


def mixed(activations: int, seeds: int, goal: float, processes: int = 2) -> Row:
    """A grid of 180 members against uniform populations: of the cheapest rule, and of each of the grid's rules.

    A rule is a pair of activation and optimizer; the mean over all of them is what the grid would cost unmixed.

    With two processes as a sweep on two cores trains them: one thread each.
    """
    about = {"activations": activations, "seeds": seeds, "images": QUICK_IMAGES, "processes": processes}
    contenders = (
        Contender(
            f"{activations} activations x 4 scales x 3 optimizers x {seeds} seeds", "ours", {**about, "kind": "mixed"}
        ),
        Contender("180 alike: ReLU, SGD", "ours", {**about, "kind": "alike"}, goal=goal),
        Contender(f"60 alike of each of its {3 * activations} rules", "ours", {**about, "kind": "apart"}),
    )
    name = "mixed_180" if activations == 3 else f"mixed_180_of_{activations}_activations"
    name += "_in_one_process" if processes == 1 else ""
    return Row(name, f"s per epoch of {QUICK_IMAGES:,} images and member", contenders)


def foretold(grid: str) -> Row:
    """A sweep against the time that ``dry_run`` foretells."""
    contenders = (
        Contender("from the plan to the end", "dry_run", {"grid": grid, "predicted": False}),
        Contender("what dry_run says", "dry_run", {"grid": grid, "predicted": True}, within=1.0),
    )
    return Row(f"cost_model_{grid}", "s", contenders, most_rounds=3)


def on_gpu(members: int, device: str = "cuda", images: int = IMAGES, **floors: int) -> Row:
    """``members`` networks on one GPU against one network at a time on the same GPU, and against its ceilings.

    The times are per epoch and member: their ratios are those per member-step. ``floors`` go to the peer of that name.
    """
    here, much = {"device": device, "images": images}, members >= 1_024
    gpu = device == "cuda"
    ours = {"members": members, "images": images, "more": [f"trainer.accelerator={'gpu' if gpu else device}"]}
    contenders = (
        Contender(f"mlp_study K={members:,}", "ours", ours),
        Contender("PyTorch loop, one network", "torch_loop", here, goal=1 / 300 if much else None),
        Contender(
            "the same with torch.compile", "torch_loop", {**here, "compiled": True}, goal=1 / 300 if much else None
        ),
        Contender("arithmetic or memory alone", "floors", {**here, **floors}, goal=2.0 if much else None),
    )
    return Row(f"gpu_{members}", "s per epoch and member", contenders, gpu=gpu)


def mixed_sweep(device: str = "gpu", data: str = "mnist", seeds: int = 50, epochs: int = 15) -> Row:
    """A whole command: 80 cells times the seeds, with every run's records and its W&B run offline."""
    axes = (
        "activation=relu,tanh,sigmoid,gelu,elu", "data.scale=none,unit,symmetric,standard",
        "optimizer=sgd,momentum,adam,rmsprop", f"seed=range(0,{seeds})",
    )  # fmt: skip
    fixed = (
        f"data={data}", f"data.root={root()}", f"trainer.max_epochs={epochs}", f"trainer.accelerator={device}",
        "data.batch_size=100", "model.widths=[100]", "wandb.mode=offline", "sweep_dir=sweep",
    )  # fmt: skip
    ours = command(f"{80 * seeds:,} runs of {epochs} epochs", "-m", "mlp_study.train", "-m", *axes, *fixed, limit=180.0)
    return Row("gpu_mixed_sweep", "s", (ours,), most_rounds=1, warm_up=False, gpu=device == "gpu")


def reproduction(data: str, limit: float, *arguments: str, full: bool) -> Row:
    """All sources of the study, ten seeds of each variant."""
    ours = command(
        f"python -m mlp_study.reproduce, {data}", "-m", "mlp_study.reproduce", "seeds=10", *arguments, limit=limit
    )
    return Row(f"reproduce_{data}", "s", (ours,), full=full, most_rounds=1, warm_up=False)


DIGITS = ("-m", "mlp_study.train", "activation=relu", "data=digits")
PART = 6_000  # images of an epoch in rows that compare shapes and mixtures

WIDTHS = {16: 64, 100: 16, 512: 8, 2048: 2}  # and how many members

ROWS = (
    single(quick=True),
    population(16, jax=1.0, products=1.6, quick=True),
    single(quick=False),
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
    population(16, jax=1.0, products=1.6),
    population(64, jax=0.8, products=1.3),
    Row(
        "own_minibatches_16",
        "s per epoch and member",
        (
            Contender("mlp_study K=16, a seed each", "ours", {"members": 16, "shared": False}),
            Contender("PyTorch loop, one network", "torch_loop"),
            Contender("JAX jit(scan(vmap)) K=16, the same", "jax_vmap", {"members": 16, "shared": False}),
        ),
    ),
    mixed(3, seeds=5, goal=1.2),
    mixed(5, seeds=3, goal=1.3),
    mixed(3, seeds=5, goal=1.2, processes=1),
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
    watched(),
    probes_cost("mnist"),
    probes_cost("mnist", 15, "probes_cost_default"),  # as long as a run is where nothing else is asked for
    Row(
        "command_to_first_step",
        "s",
        (
            command(
                "a whole command that takes one step",
                *DIGITS,
                "trainer.max_epochs=1",
                "data.limit=100",
                "data.batch_size=100",
                "wandb.mode=offline",
                limit=4.0,
            ),
        ),
    ),
    Row(
        "help",
        "s",
        (
            command("python -m mlp_study.train --help", "-m", "mlp_study.train", "--help", limit=2.0),
            command("python -c pass", "-c", "pass"),
        ),
        quick=True,
    ),
    Row(
        "first_run",
        "s",
        (
            command("first run on digits", *DIGITS, limit=10.0),
            command("the same without W&B, model, figures", *DIGITS, "wandb.mode=disabled", "save=none", apart=0.3),
            command("importing torch and lightning", "-c", "import torch, lightning"),
        ),
    ),
    Row("quick_first_run", "s", (command("first run on digits", *DIGITS, limit=10.0),), quick=True, full=False),
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
    overhead(10, limit=0.025, most_rounds=5),
    overhead(100, limit=0.025, most_rounds=3),
    overhead(1_000, limit=0.015, most_rounds=3),
    overhead(10_000, limit=0.025, most_rounds=1),
    reproduction("digits", 60.0, "data=digits", full=True),
    reproduction("real", 25 * 60.0, f"data.root={root()}", full=False),
    *(on_gpu(members) for members in (1, 4, 16, 64, 256, 1_024, 4_096)),
    mixed_sweep(),
)
