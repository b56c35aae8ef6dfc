"""Networks, losses and optimizers as scripts write them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

Maker = Callable[..., Any]


def mlp(
    *widths: int,
    act: Maker | None = nn.ReLU,
    before: Maker | None = None,
    after: Maker | None = None,
    drop: float = 0.0,
    head: Iterable[nn.Module] = (),
    tail: Iterable[nn.Module] = (),
) -> nn.Sequential:
    """Linear layers with an activation, norms of the layer's width before or after it, and what stands at both ends."""
    layers = list(head)
    for i, o in pairwise(widths[:-1]):
        layers += [nn.Linear(i, o), *([before(o)] if before else []), *([act()] if act else [])]
        layers += [*([after(o)] if after else []), *([nn.Dropout(drop)] if drop else [])]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]), *tail)


def filled(model: nn.Module, value: float, only: Iterable[int] | None = None, bias: float | None = 0.0) -> nn.Module:
    """Set every weight (of the linear and convolution layers with these numbers) to one value."""
    weighty = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    for number, layer in enumerate(weighty):
        if only is None or number in only:
            nn.init.constant_(layer.weight, value)
            if bias is not None:
                nn.init.constant_(layer.bias, bias)
    return model


def started(model: nn.Module, how: Callable[[Tensor], Any]) -> nn.Module:
    """Initialise every linear and convolution weight by `how`, biases 0."""
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            how(layer.weight)
            nn.init.zeros_(layer.bias)
    return model


def biased(model: nn.Module, bias: float, part: float = 1.0, only: int = 0) -> nn.Module:
    """Set the bias of the first part of a linear layer's units."""
    layer = [m for m in model.modules() if isinstance(m, nn.Linear)][only]
    with torch.no_grad():
        layer.bias[: int(part * len(layer.bias))] = bias
    return model


def frozen(model: nn.Module, layers: Iterable[int]) -> nn.Module:
    """Freeze the linear and convolution layers with these numbers."""
    weighty = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    for number in layers:
        weighty[number].requires_grad_(False)
    return model


def trained(model: nn.Module, table: tuple[Tensor, Tensor], lr: float, steps: int) -> nn.Module:
    """Train full batches of cross-entropy by SGD: weights that have a past."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(table[0]), table[1]).backward()
        optimizer.step()
    optimizer.zero_grad()
    return model


def sgd(lr: float, **more: Any) -> Maker:
    return lambda model: torch.optim.SGD(model.parameters(), lr=lr, **more)


def adam(lr: float = 1e-3, **more: Any) -> Maker:
    return lambda model: torch.optim.Adam(model.parameters(), lr=lr, **more)


def adamw(lr: float = 1e-3, **more: Any) -> Maker:
    return lambda model: torch.optim.AdamW(model.parameters(), lr=lr, **more)


def rmsprop(lr: float = 1e-2, **more: Any) -> Maker:
    return lambda model: torch.optim.RMSprop(model.parameters(), lr=lr, **more)


def loader(x: Tensor, target: Tensor, batch: int, shuffle: bool, **more: Any) -> DataLoader:
    """The usual DataLoader; `partial` fixes further options."""
    return DataLoader(TensorDataset(x, target), batch_size=batch, shuffle=shuffle, **more)


dropping_last = partial(loader, drop_last=True)


class Squeeze(nn.Module):
    """Drop the last axis."""

    def forward(self, x: Tensor) -> Tensor:
        return x.squeeze(-1)


class Functional(nn.Module):
    """A forward that calls functions instead of modules."""

    def __init__(self, *widths: int, act: Callable[[Tensor], Tensor] = F.relu, out: Maker | None = None):
        super().__init__()
        self.fc = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(widths))
        self.act, self.out = act, out

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for layer in self.fc[:-1]:
            x = self.act(layer(x))
        x = self.fc[-1](x)
        return x if self.out is None else self.out(x)


class Residual(nn.Module):
    """Linear layers with skips around them."""

    def __init__(self, inputs: int, width: int, depth: int, outputs: int):
        super().__init__()
        self.first, self.last = nn.Linear(inputs, width), nn.Linear(width, outputs)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = x + torch.relu(block(x))
        return self.last(x)


class Detached(Functional):
    """The features are cut off from the loss."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.fc[:-1]:
            x = self.act(layer(x))
        return self.fc[-1](x.detach())


class NoGradBody(Functional):
    """The body runs under no_grad, as people write it to save memory."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            for layer in self.fc[:-1]:
                x = self.act(layer(x))
        return self.fc[-1](x)


class AlwaysDropping(Functional):
    """F.dropout left at its default: it drops in eval mode, too."""

    def __init__(self, *widths: int, rate: float):
        super().__init__(*widths)
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.fc[:-1]:
            x = F.dropout(self.act(layer(x)), self.rate)
        return self.fc[-1](x)


def cnn(
    side: int,
    classes: int,
    width: int = 8,
    norm: Maker | None = None,
    act: Maker = nn.ReLU,
    tail: Iterable[nn.Module] = (),
) -> nn.Sequential:
    """Two convolutions, pooling, one linear layer."""
    layers: list[nn.Module] = []
    for i, o in ((1, width), (width, 2 * width)):
        layers += [nn.Conv2d(i, o, 3, padding=1), *([norm(o)] if norm else []), act(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(2 * width * (side // 4) ** 2, classes), *tail)
