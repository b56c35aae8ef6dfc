"""The LightningModule of a population: it steps through blocks of minibatches and keeps each member's own account.

Manual optimization: the Trainer sees one "batch" per block of minibatches, so its cost is paid once a block. Losses
stay on the device and leave it once a block (to find divergence) and once an epoch (to record it). A member that ends
early is ended: its numbers are set aside, and its place is zeroed if they are no longer finite, so that its
neighbours go on undisturbed; when half of the places are free the population is compacted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from mlp_study.errors import ConfigError
from mlp_study.factors.lazy_gradient import Gradient, cleared, summed
from mlp_study.model.backprop import Backprop
from mlp_study.model.population import PopulationMLP
from mlp_study.runtime.devices import enough_memory, step_bytes
from mlp_study.runtime.randomness import derived_seed, from_image
from mlp_study.training.datamodule import PopulationData
from mlp_study.training.feed import Block, Feed
from mlp_study.training.members import EndedMember, Tally
from mlp_study.training.results import Metrics
from mlp_study.training.updates import Updates

SCALED_BYTES = 16 * 2**20  # scaled images at a time: a CPU's caches hold most of them until they are used
SCALED_BYTES_GPU = 64 * 2**20


def predicted(logits_KCB: Tensor) -> Tensor:
    """Return the class of the largest logit, [K, B]; ``argmax`` takes five times as long on a CPU."""
    return logits_KCB.max(1).indices


class PopulationModule(LightningModule):
    """The LightningModule of K members that train in lockstep.

    Args:
        data: the input streams and, with them, the configs of all members.

    Attributes:
        live: the member numbers (positions in ``configs``) that still train, in their places' order.
        ended: the members that have ended.
        block_losses_SK: loss of each live member in each step of the current block.
        diagnostics: what probes have found on each member, by when: ``initial``, ``step_100``.
        after_step: called after each update, if set.
    """

    def __init__(self, data: PopulationData) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.data, self.configs = data, data.configs
        configs, images = data.configs, data.images
        with enough_memory(configs[0].model.widths, configs[0].data.batch_size):
            inputs, classes = images.train_images_NI.shape[1], len(images.classes)
            self.mlp = PopulationMLP(configs, inputs, classes, self.feed.per_stream)
            if configs[0].trainer.precision == "64":
                self.mlp.double()
        self.total_steps = self.feed.sizes.steps * configs[0].trainer.max_epochs
        self.live = list(range(len(configs)))
        self.ended: dict[int, EndedMember] = {}
        self.curves: list[list[Metrics]] = [[] for _ in configs]
        self.epochs_done, self.train_seconds = 0, 0.0
        self.seconds_before, self._made = 0.0, time.perf_counter()
        self.block_losses_SK: Tensor | None = None
        self.diagnostics: list[dict[str, Metrics]] = [{} for _ in configs]
        self.after_step: Callable[[PopulationModule], None] | None = None
        self.trained_on = torch.device("cpu")
        self.carried = Tally()  # the sums of an epoch that a checkpoint interrupted
        self._held: Tensor | None = None
        self._held_by: Feed | None = None
        self._prepare()

    @property
    def feed(self) -> Feed:
        """The input streams of the live members."""
        return self.data.feed

    def _prepare(self) -> None:
        """Make what depends on the members that are live now."""
        self.backprop = Backprop(self.mlp)
        self.updates = Updates(self.mlp, self.total_steps)
        keys = [derived_seed(c.seed, "dropout") for c in self.mlp.configs]
        self.keys_K = torch.tensor(keys, device=self.device)

    def model(self, k: int) -> torch.nn.Sequential:
        """Return member k as a plain ``torch.nn.Sequential`` on scaled images [N, I]."""
        return self.whole().export(k)

    def configure_optimizers(self) -> None:
        """Return none: ``Updates`` applies each member's own rule (Lightning hook)."""

    def transfer_batch_to_device(self, batch: Block, device: torch.device, dataloader_idx: int) -> Block:
        """Move a block's indices, once for all of its steps (Lightning hook)."""
        return replace(batch, index_RSB=batch.index_RSB.to(device))

    def on_train_start(self) -> None:
        """Move images, keys and optimizer state to the weights' device, known now (Lightning hook)."""
        self.trained_on = self.device
        self.feed.to(self.device)
        before = self.updates
        self._prepare()
        if before.step_count:
            self.updates.take(before, range(self.mlp.K))

    def on_train_epoch_start(self) -> None:
        """Begin the epoch's sums (Lightning hook)."""
        self.mlp.train()
        self.tallies, self.carried = {"train": self.carried.to(self.device)}, Tally()
        self._steps_before = self.epochs_done * self.feed.sizes.steps
        self._epoch_began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds since the population was made, including those before it was resumed."""
        return self.seconds_before + time.perf_counter() - self._made

    @property
    def seconds_in_epoch(self) -> float:
        """Seconds of training since the epoch began or was resumed."""
        if self.device.type == "cuda":  # steps are asked for long before they are done
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - self._epoch_began

    @torch.no_grad()
    def training_step(self, block: Block, batch_idx: int) -> None:
        """Train one block: S minibatches, S updates (Lightning hook)."""
        steps = block.index_RSB.shape[1]
        self.updates.prepare(steps)
        y_KSB = self.feed.targets(block)
        whole = self._chunk >= block.index_RSB.shape[2]
        x_GBI = self._inputs(block) if whole else None
        losses, correct = [], []
        for y_KB in y_KSB.unbind(1):
            chunks = self._chunks(block, y_KB) if x_GBI is None else [(next(x_GBI), y_KB)]
            loss_K, correct_K = self._step(chunks, block.index_RSB.shape[2])
            losses.append(loss_K)
            correct.append(correct_K)
            if self.after_step is not None:
                self.after_step(self)
        self.block_losses_SK = torch.stack(losses)
        if self.device.type != "cpu":  # there a look at each step would wait for the device each time
            self._freeze_diverged(self.block_losses_SK)
        count = block.index_RSB.shape[2]
        self.tallies["train"].add(self.block_losses_SK.sum(0) * count, torch.stack(correct).sum(0), count * steps)

    def _inputs(self, block: Block) -> Iterator[Tensor]:
        """Yield what the model takes in each step: scaled images, [inputs, B, I].

        They are scaled for as many steps at a time as a CPU's caches hold, in memory that is kept from block to block;
        a full batch's are scaled once.
        """
        feed, G, B, I = self.feed, len(self.feed.keys), block.index_RSB.shape[2], self.mlp.sizes[0]
        like = self.mlp.weights[0]
        most = SCALED_BYTES if self.device.type == "cpu" else SCALED_BYTES_GPU
        steps = min(max(1, most // (G * B * I * like.element_size())), self.feed.sizes.steps)
        if self._held is None or self._held_by is not self.feed or len(self._held) < steps * G * B * I:
            self._held = torch.empty(steps * G * B * I, dtype=like.dtype, device=self.device)
        elif self.feed.data.batch_size == "full":
            yield feed.dealt(self._held.view(G, B, I))
            return
        self._held_by = self.feed
        for first in range(0, block.index_RSB.shape[1], steps):
            piece = Block(block.split, block.index_RSB[:, first : first + steps])
            x_GSBI = self._held[: G * piece.index_RSB[0].numel() * I].view(G, -1, B, I)
            steps_GBI = feed.scaled(piece, like.dtype, x_GSBI).unbind(1)
            yield from steps_GBI if feed.shares else map(feed.dealt, steps_GBI)

    @property
    def _chunk(self) -> int:
        """How many images one step takes at a time."""
        per_image = 12 * self.mlp.K * sum(self.mlp.sizes[1:]) + 8 * len(self.feed.per_stream) * self.mlp.sizes[0]
        return max(1, step_bytes(self.device) // per_image)

    def _chunks(self, block: Block, y_KB: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield a minibatch that is too large for memory in pieces; its gradient is the sum of theirs."""
        if self.mlp.norm == "batch":
            raise ConfigError(
                f"data.batch_size={self.feed.data.batch_size} needs more memory than model.norm=batch allows; "
                f"it takes at most {self._chunk} images, or model.norm=layer"
            )
        pieces = block.index_RSB.split(self._chunk, dim=2)
        for index_R1B, y_Kb in zip(pieces, y_KB.split(self._chunk, dim=1), strict=True):
            yield self.feed.inputs(Block(block.split, index_R1B), self.mlp.weights[0].dtype)[:, 0], y_Kb

    def _step(self, chunks: Iterable[tuple[Tensor, Tensor]], count: int) -> tuple[Tensor, Tensor]:
        """Update from a minibatch of ``count`` images; return each member's mean loss and right answers, [K]."""
        total: list[Gradient] = []
        loss_K = correct_K = None
        keys_K = self.keys_K + derived_seed(self.updates.step_count, "step") if self.mlp.drops else None
        seen = 0
        for x_GBI, y_KB in chunks:
            logits_KCB = self.backprop.forward(x_GBI, None if keys_K is None else from_image(keys_K, seen))
            seen += y_KB.shape[1]
            loss_KB, slope_KCB = self.mlp.loss_with_slope(logits_KCB, y_KB)
            gradients = self.backprop.backward(slope_KCB.div_(count))  # of the member's mean loss
            total = summed(total, gradients, self.mlp.weights[0].dtype) if total else gradients
            hits_K = (predicted(logits_KCB) == y_KB).sum(1)
            part_K = loss_KB.sum(1) / count
            loss_K = part_K if loss_K is None else loss_K + part_K
            correct_K = hits_K if correct_K is None else correct_K + hits_K
        assert loss_K is not None
        assert correct_K is not None
        if self.device.type == "cpu" and not math.isfinite(loss_K.sum().item()):
            self._freeze_diverged(loss_K[None], total)
        self.updates.step(total)
        return loss_K, correct_K

    def _freeze_diverged(self, losses_SK: Tensor, gradients: Sequence[Gradient] = ()) -> None:
        """End the members whose loss is not finite, before their update where gradients are given."""
        for place in (~torch.isfinite(losses_SK)).any(0).nonzero().flatten().tolist():
            if self.live[place] not in self.ended:
                bad = (~torch.isfinite(losses_SK[:, place])).nonzero()[0].item()
                step = int(self.updates.step_count + 1 - (0 if gradients else len(losses_SK) - bad))
                value = losses_SK[int(bad), place].item()
                self.end_member(place, "diverged", f"the loss became {value} at step {step}", step)
            self._empty(place)
            cleared(gradients, place)

    def end_member(self, place: int, outcome: str, cause: str | None = None, step: int | None = None) -> None:
        """End the member at ``place``: set a copy of its tensors aside."""
        k = self.live[place]
        if k not in self.ended:
            last = self.updates.step_count if step is None else step
            self.ended[k] = EndedMember(outcome, cause, self.mlp.member(place), last)

    @torch.no_grad()
    def _empty(self, place: int) -> None:
        """Put zeros in place of a diverged member: NaN and denormal numbers would cost time and stay NaN."""
        for name, tensor in self.mlp.tensors().items():
            tensor[place] = 1 if name.startswith("var_") else 0
        self.updates.reset(place)

    def active_places(self) -> list[int]:
        """Return the places whose member still trains."""
        return [place for place, k in enumerate(self.live) if k not in self.ended]

    def compact(self) -> None:
        """Close the gaps that ended members have left."""
        keep = self.active_places()
        old_mlp, old_updates = self.mlp, self.updates
        self.live = [self.live[place] for place in keep]
        self.data.select(self.live)
        self.mlp = old_mlp.select(keep, self.feed.per_stream)
        self._prepare()
        self.updates.take(old_updates, keep)

    def whole(self) -> PopulationMLP:
        """Return a population of all members, live and ended ones, in the order of ``configs``."""
        if not self.ended:
            return self.mlp
        inputs, classes = self.mlp.sizes[0], self.mlp.sizes[-1]
        mlp = PopulationMLP(self.configs, inputs, classes, self.data.everyone.per_stream, draw=False)
        mlp.to(self.mlp.weights[0])
        for place, k in enumerate(self.live):
            if k not in self.ended:
                mlp.fill(k, self.mlp.member(place))
        for k, ended in self.ended.items():
            mlp.fill(k, ended.tensors)
        return mlp.eval()

    def on_validation_epoch_start(self) -> None:
        """End the epoch's training part (Lightning hook)."""
        self.train_seconds += self.seconds_in_epoch
        self._epoch_began = time.perf_counter()
        self.tallies["val"] = Tally()

    def validation_step(self, block: Block, batch_idx: int) -> None:
        """Add a chunk of validation images to the sums (Lightning hook)."""
        self._evaluate(self.mlp, self.feed, block, self.tallies["val"])

    def _evaluate(self, mlp: PopulationMLP, feed: Feed, block: Block, tally: Tally) -> Tensor:
        logits_KCB = mlp(feed.inputs(block, mlp.weights[0].dtype)[:, 0])
        y_KB = feed.targets(block)[:, 0]
        predicted_KB = predicted(logits_KCB)
        tally.add(mlp.loss(logits_KCB, y_KB).sum(1), (predicted_KB == y_KB).sum(1), y_KB.shape[1])
        return predicted_KB

    @torch.no_grad()
    def evaluate(self, part: str) -> tuple[list[Metrics], Tensor]:
        """Evaluate all members on the images of ``part``: their rows, and the predicted classes [K, N]."""
        feed, mlp = self.data.everyone.to(self.device), self.whole().eval()
        tally = Tally()
        blocks = feed.evaluation_blocks(part, max(mlp.sizes[1:]))
        classes = [self._evaluate(mlp, feed, block, tally) for block in blocks]
        return tally.rows(part), torch.cat(classes, 1).cpu()

    def end_epoch(self) -> None:
        """Write the row of the epoch that has just ended for each member that was alive in it.

        Of a member that diverged on the way, the row has what is its own: the step, and the loss that is no number.
        The rest of the epoch's sums comes from the zeros in its place.
        """
        if "val" not in self.tallies:
            self.train_seconds += self.seconds_in_epoch
        self.epochs_done += 1
        rows = [tally.rows(part) for part, tally in self.tallies.items()]
        for place, k in enumerate(self.live):
            ended = self.ended.get(k)
            if ended is not None and ended.step <= self._steps_before:
                continue
            found: Metrics = {name: value for part in rows for name, value in part[place].items()}
            step = self.updates.step_count if ended is None else ended.step
            if ended is not None:
                found = {"train/loss": found["train/loss"]}
            row: Metrics = {"epoch": self.epochs_done, "step": step, "seconds": self.train_seconds}
            self.curves[k].append(row | found)
            bad = [f"{name} became {v}" for name, v in found.items() if not math.isfinite(v)]
            if bad and ended is None:
                self.end_member(place, "diverged", f"{bad[0]} in epoch {self.epochs_done}")
                self._empty(place)
