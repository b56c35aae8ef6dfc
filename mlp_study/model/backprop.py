"""Back-propagation written out, layer by layer: a minibatch forward and backward through a population.

On the way back the loss's slope meets each layer's weights, whose gradient is its product with the layer's inputs, and
then what stands between two layers. Where that is only activations whose derivatives stand in their table, it is one
operation; else autograd differentiates that part alone. Autograd on the whole pass finds the same numbers
(tests/model/test_backprop.py) with a third more operations and twice the calls of Python, and in a small network
starting an operation costs more than its arithmetic (docs/speed.md).
"""

from __future__ import annotations

import torch
from torch import Tensor

from mlp_study.factors.lazy_gradient import Gradient, LazyGradient
from mlp_study.model.member_groups import joined, split_by_group
from mlp_study.model.population import PopulationMLP


class Backprop:
    """Run minibatches forward and backward through one population.

    Both are called while autograd records nothing (``torch.no_grad``), as the whole of a training step is.

    Args:
        mlp: the population; its parameters are read, not written.
    """

    def __init__(self, mlp: PopulationMLP) -> None:
        self.mlp = mlp
        self._last = len(mlp.weights) - 1
        self._all_weights = list(mlp.weights)  # a ParameterList is slow to ask, and each step asks
        self._beside = list(mlp.parameters())[2 * len(mlp.weights) :]
        self._groups = mlp.activation_groups
        formulas = all(s.entry.slope is not None for s in self._groups)
        self._plain = formulas and not mlp.drops and not self._beside
        self._inputs: list[Tensor] = []  # of each product
        self._weights: list[Tensor] = []  # in the products' precision
        self._ends: list[list[tuple[Tensor, Tensor]]] = []  # what each part between two products took and gave

    def forward(self, x_GBI: Tensor, keys_K: Tensor | None = None) -> Tensor:
        """Return the logits [K, C, B]; takes what ``PopulationMLP.forward`` takes."""
        low = torch.get_autocast_dtype(x_GBI.device.type) if torch.is_autocast_enabled(x_GBI.device.type) else None
        self._weights = self._all_weights if low is None else [w.to(low) for w in self._all_weights]
        self._inputs, self._ends = [], []
        a = x_GBI
        for layer, weight_KOI in enumerate(self._weights):
            if low is not None:
                a = a.to(low)  # rounded once for the forward and the backward pass
            self._inputs.append(a)
            z_KOB = self.mlp.product(layer, a, weight_KOI)
            if layer < self._last:
                a = self._between(layer, z_KOB, keys_K)
        return z_KOB

    def _between(self, layer: int, z_KOB: Tensor, keys_K: Tensor | None) -> Tensor:
        if self._plain:
            ends: list[tuple[Tensor, Tensor]] = []
            for s, z_mOB in zip(self._groups, split_by_group(self._groups, z_KOB), strict=True):
                ends.append((z_mOB, s.entry.function(z_mOB, **s.options_like(z_mOB))))
            self._ends.append(ends)
            return joined([a_mOB for _, a_mOB in ends])
        with torch.enable_grad():
            a_KOB = self.mlp.between(layer, z_KOB.requires_grad_(), keys_K)
        self._ends.append([(z_KOB, a_KOB)])
        return a_KOB.detach()

    def backward(self, slope_KCB: Tensor) -> list[Gradient]:
        """Return each member's gradient, one a parameter in their order; weights' are lazy.

        Args:
            slope_KCB: the derivative of the members' losses by the logits of the last forward pass.
        """
        weights: list[Gradient] = []
        biases: list[Gradient] = []
        found: dict[int, Tensor] = {}
        dtype = self._all_weights[0].dtype
        slope_KOB = slope_KCB.to(self._weights[-1].dtype)
        for layer in range(self._last, -1, -1):
            inputs = self._inputs[layer]
            biases.append(slope_KOB.sum(2, keepdim=True, dtype=dtype))
            if layer == 0:
                weights.append(LazyGradient(slope_KOB, inputs if self.mlp.fed else inputs.mT, self.mlp.fed))
                break
            weights.append(LazyGradient(slope_KOB, inputs))
            slope_KOB = self._through(layer - 1, torch.bmm(self._weights[layer].mT, slope_KOB), found)
        self._inputs, self._weights, self._ends = [], [], []  # the gradients hold what they need of them
        return [*reversed(weights), *reversed(biases), *(found[id(p)] for p in self._beside)]

    def _through(self, layer: int, slope_KOB: Tensor, found: dict[int, Tensor]) -> Tensor:
        """Take the slope back through what stands between two products; its parameters' gradients go to ``found``."""
        ends, groups = self._ends[layer], self._groups
        if self._plain:
            of_groups = zip(groups, split_by_group(groups, slope_KOB), ends, strict=True)
            return joined([s.entry.slope(g_mOB, *end, **s.options_like(g_mOB)) for s, g_mOB, end in of_groups])
        [(z_KOB, a_KOB)] = ends
        own = self.mlp.parameters_between(layer)
        slope_KOB = slope_KOB.to(a_KOB.dtype)
        slope_KOB, *of_own = torch.autograd.grad(a_KOB, [z_KOB, *own], slope_KOB, materialize_grads=True)
        found |= {id(p): g for p, g in zip(own, of_own, strict=True)}
        return slope_KOB
