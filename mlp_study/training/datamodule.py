"""The LightningDataModule of a population: it yields blocks of minibatch indices, the images stay where they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from lightning.pytorch import LightningDataModule

from mlp_study.training.feed import Block, Feed, Fitted

if TYPE_CHECKING:
    from mlp_study.config.schema import RunConfig
    from mlp_study.data.images import ImageSet


class _Blocks:
    """Load blocks without telling how many: compacting a population changes that."""

    def __init__(self, blocks: Callable[[], Iterator[Block]]) -> None:
        self.blocks = blocks

    def __iter__(self) -> Iterator[Block]:
        return self.blocks()


class PopulationData(LightningDataModule):
    """The input streams of a population.

    Args:
        configs: one config a member.
        images: the data set.
        order: the members' order in the population, such as ``lockstep_order``; None: that of ``configs``.

    Attributes:
        asked: the configs in the caller's order.
        configs: the same in the population's order.
        order: each member's number in the caller's ``configs``.
        feed: the streams of the members that are live now.
        everyone: the streams of all members.
    """

    def __init__(
        self,
        configs: Sequence[RunConfig],
        images: ImageSet,
        order: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.asked = list(configs)
        self.order = list(range(len(configs)) if order is None else order)
        self.configs, self.images = [configs[k] for k in self.order], images
        self._widest = max([*configs[0].model.widths, len(images.classes)])
        self._fitted: Fitted = {}
        self.everyone = self.feed = Feed(self.configs, images, self._fitted)
        self._skipped: tuple[int, int] = (0, 0)

    def skip(self, epoch: int, steps: int) -> None:
        """Leave out the first ``steps`` steps of this epoch: they have been trained already."""
        self._skipped = epoch, steps

    def select(self, members: Sequence[int]) -> None:
        """Feed only these members from now on."""
        device = self.feed.labels["train"].device
        self.feed = Feed([self.configs[k] for k in members], self.images, self._fitted).to(device)

    def train_dataloader(self) -> _Blocks:
        """Return a loader that yields the blocks of one epoch at each iteration."""
        return _Blocks(self._next_epoch)

    def _next_epoch(self) -> Iterator[Block]:
        now = 1 + (self.trainer.current_epoch if self.trainer is not None else 0)
        epoch, steps = self._skipped
        skipped = steps if epoch == now else 0
        for block in self.feed.train_blocks(now):
            done = max(0, skipped - block.first_step)
            if done < block.index_RSB.shape[1]:
                yield Block(block.split, block.index_RSB[:, done:], block.first_step + done) if done else block

    def val_dataloader(self) -> _Blocks:
        """Return a loader of the validation images in chunks."""
        return _Blocks(lambda: iter(self.feed.evaluation_blocks("val", self._widest)))
