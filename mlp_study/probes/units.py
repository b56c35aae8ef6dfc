"""What single hidden units do on the data: dead, dormant, always on, saturated, and hyperplanes that miss the data.

Pure functions of a population and chunks of data. Shape letters: K members, m of a group, O units, B images of a chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mlp_study.factors.activations import Activation
from mlp_study.factors.diagnostics import DIAGNOSTICS, DORMANT, diagnostic_of

if TYPE_CHECKING:
    from mlp_study.model.population import PopulationMLP

Chunks = Iterable[tuple[Tensor, Tensor]]  # (scaled images x_GBI, labels y_KB)
Values = dict[str, Tensor]  # one number a member [K], on the CPU, float64; NaN where it does not apply

UNIT_PROBES = tuple(name for name, entry in DIAGNOSTICS.items() if entry.family == "units")
_OFF, _SATURATED, _RANGE = {"sparsity", "dead", "always_on"}, {"saturated"}, {"preactivation", "missed"}


class LayerCount:
    """What has been seen of one hidden layer so far; ``add`` takes a chunk more."""

    def __init__(self, mlp: PopulationMLP, layer: int, names: Collection[str]) -> None:
        self.mlp, self.layer, self.names = mlp, layer, set(names)
        self.seen = 0
        self.sums: dict[str, Tensor] = {}

    def add(self, z_KOB: Tensor, a_KOB: Tensor) -> None:
        """Count one chunk's pre-activations and activations."""
        self.seen += z_KOB.shape[2]
        if self.names & _OFF:
            self._keep("off", self._count("off", z_KOB))
        if self.names & _SATURATED:
            self._keep("saturated", self._count("saturated", z_KOB))
        if self.names & _RANGE:
            self._keep("low", z_KOB.amin(2), torch.minimum)  # ten times as fast as aminmax, on a CPU
            self._keep("high", z_KOB.amax(2), torch.maximum)
        if "preactivation" in self.names:
            self._keep("z", z_KOB.sum(2).double())
            self._keep("zz", torch.linalg.vector_norm(z_KOB, dim=2).double().square())
        if "dormant" in self.names:
            self._keep("activity", a_KOB.abs().sum(2).double())

    def _keep(self, name: str, new: Tensor, merge: Callable[[Tensor, Tensor], Tensor] = torch.add) -> None:
        self.sums[name] = merge(self.sums[name], new) if name in self.sums else new

    def _count(self, which: str, z_KOB: Tensor) -> Tensor:
        """Count the images on which each unit is in the activation's own zone, [K, O]; 0 where it has none."""
        parts = []
        for members, entry, options in rules(self.mlp, self.layer):
            rule, z_mOB = getattr(entry, which), z_KOB[members]
            # truth values taken as bytes add up three times as fast as floats made of them
            parts.append(
                rule(z_mOB, **options).bool().view(torch.int8).sum(2, dtype=torch.int32)
                if rule
                else torch.zeros(z_mOB.shape[:2], dtype=torch.int32, device=z_mOB.device)
            )
        return (torch.cat(parts) if len(parts) > 1 else parts[0]).double()

    def values(self) -> Values:
        """Return the layer's diagnostics, each [K]."""
        s = self.sums
        found: Values = {}
        units = self.mlp.sizes[self.layer + 1]
        if self.names & _OFF:
            shares = {
                "dead": (s["off"] == self.seen).double().mean(1),
                "always_on": (s["off"] == 0).double().mean(1),
                "sparsity": s["off"].sum(1) / (units * self.seen),
            }
            found |= {name: self._where_ruled("off", share_K) for name, share_K in shares.items()}
        if self.names & _SATURATED:
            found["saturated"] = self._where_ruled("saturated", s["saturated"].sum(1) / (units * self.seen))
        if self.names & _RANGE:
            found["missed"] = ((s["low"] >= 0) | (s["high"] <= 0)).double().mean(1)
        if "dormant" in self.names:
            activity_KO = s["activity"]
            found["dormant"] = (activity_KO <= DORMANT * activity_KO.mean(1, keepdim=True)).double().mean(1)
        if "preactivation" in self.names:
            mean_K = s["z"].mean(1) / self.seen
            found["preactivation_mean"] = mean_K
            found["preactivation_deviation"] = (s["zz"].mean(1) / self.seen - mean_K**2).clamp(min=0).sqrt()
            found |= {
                "preactivation_low": s["low"].amin(1).double(),
                "preactivation_high": s["high"].amax(1).double(),
            }
        return {name: v_K.cpu() for name, v_K in found.items() if diagnostic_of(name) in self.names}

    def _where_ruled(self, which: str, share_K: Tensor) -> Tensor:
        """Set NaN for the members whose activation has no such side."""
        for members, entry, _ in rules(self.mlp, self.layer):
            if getattr(entry, which) is None:
                share_K[members] = torch.nan
        return share_K


def rules(mlp: PopulationMLP, layer: int) -> list[tuple[slice, Activation, dict[str, Any]]]:
    """Return each group's members, their activation in this hidden layer, and its options there."""
    return [(g.members, g.entry, mlp.activation_options(g, layer)) for g in mlp.activation_groups]


@torch.no_grad()
def unit_probes(mlp: PopulationMLP, chunks: Chunks, names: Collection[str] = UNIT_PROBES) -> Values:
    """Measure diagnostics of the family ``units`` in one pass over the data, per layer and over all hidden units.

    Exact for the data it is given: over the whole training split, ``dead`` is Lu et al. 2019's definition.

    Args:
        mlp: the population; it is read as its current mode (training or evaluation) has it.
        chunks: (x_GBI, y_KB); labels are not used.
        names: of ``UNIT_PROBES``.
    """
    layers = [LayerCount(mlp, layer, names) for layer in range(mlp.hidden)]
    for x_GBI, _ in chunks:
        for count, (z_KOB, a_KOB) in zip(layers, mlp.layerwise(x_GBI), strict=False):  # the last pair is the logits
            count.add(z_KOB, a_KOB)
    per_layer = [count.values() for count in layers]
    found = {f"{name}_{layer}": v_K for layer, values in enumerate(per_layer) for name, v_K in values.items()}
    widths = torch.tensor(mlp.sizes[1:-1], dtype=torch.float64)
    for name in per_layer[0]:
        if name in DIAGNOSTICS:
            share_KL = torch.stack([values[name] for values in per_layer], 1)
            weight_KL = torch.where(share_KL.isnan(), 0.0, widths)  # layers to which it applies
            found[name] = (share_KL.nan_to_num() * weight_KL).sum(1) / weight_KL.sum(1)
    return found
