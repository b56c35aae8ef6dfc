"""PopulationMLP: many perceptrons of one shape, stacked along a member axis; one network is a population of one.

Shape letters: K members, m members of a group, G input streams, B minibatch, I/O a layer's inputs/outputs, C classes.
Activations are feature-major, ``[K, O, B]``: the members of one input stream are then a single product
``[m*O, I] x [I, B]``, every group of members is contiguous, and logits ``[K, C, B]`` have the layout that torch's
losses take.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from mlp_study.config.schema import RunConfig
from mlp_study.errors import ConfigError
from mlp_study.factors.activations import ACTIVATIONS
from mlp_study.factors.initializers import INITIALIZERS, draw_bias
from mlp_study.factors.lazy_gradient import equal_streams, split
from mlp_study.factors.losses import LOSSES
from mlp_study.model.member_groups import MemberGroup, by_group, member_groups
from mlp_study.runtime.randomness import derived_seed, generator, hashed_uniform

NORM_EPS = 1e-5
NORM_MOMENTUM = 0.1  # torch.nn.BatchNorm1d's: weight of the newest minibatch in the running statistics


class PopulationMLP(nn.Module):
    """K multilayer perceptrons of one shape that may differ in everything else.

    Args:
        configs: one config a member, members of the same input stream next to each other.
        inputs: pixels of an image, I of the first layer.
        classes: C.
        per_stream: how many members each of the G input streams feeds; their sum is K.
        draw: False leaves the weights at zero, for a population that is filled from another.

    Attributes:
        sizes: of the layers, from the inputs to the classes.
        hidden: the number of hidden layers.
        fed: ``per_stream``; None where every member has a stream of its own: the first layer is then no special case.
    """

    def __init__(
        self,
        configs: Sequence[RunConfig],
        inputs: int,
        classes: int,
        per_stream: Sequence[int] | None = None,
        *,
        draw: bool = True,
    ) -> None:
        super().__init__()
        self.configs = list(configs)
        self.per_stream = list(per_stream or [len(configs)])
        model = configs[0].model
        assert all((c.model.widths, c.model.norm) == (model.widths, model.norm) for c in configs), "one shape for all"
        assert sum(self.per_stream) == len(configs), "every member has one input stream"
        shared = len(self.per_stream) < len(configs)
        self.fed = tuple(self.per_stream) if shared else None
        self.sizes = [inputs, *model.widths, classes]
        self.hidden = len(model.widths)
        self.norm = model.norm
        self.activation_groups = member_groups([c.activation for c in configs], ACTIVATIONS)
        self.loss_groups = member_groups([c.loss for c in configs], LOSSES)
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for layer, (fan_in, fan_out) in enumerate(pairwise(self.sizes)):
            weight_KOI, bias_KO1 = torch.zeros(self.K, fan_out, fan_in), torch.zeros(self.K, fan_out, 1)
            if draw:
                self._draw(layer, weight_KOI, bias_KO1)
            self.weights.append(nn.Parameter(weight_KOI))
            self.biases.append(nn.Parameter(bias_KO1))
        self.learned = self._learned_options()
        self.scales, self.shifts = nn.ParameterList(), nn.ParameterList()
        if self.norm != "none":
            self._add_norms()
        self.register_buffer(
            "dropout_K11", torch.tensor([c.model.dropout for c in configs]).view(-1, 1, 1), persistent=False
        )
        self.drops = any(c.model.dropout > 0 for c in configs)
        self._linear = list(zip(self.weights, self.biases, strict=True))  # each step asks, and a ParameterList is slow
        assert all(self.count_parameters(k) == self._expected_parameters(k) for k in range(self.K)), "a plain network's"

    @property
    def K(self) -> int:
        """The number of members."""
        return len(self.configs)

    def _draw(self, layer: int, weight_KOI: Tensor, bias_KO1: Tensor) -> None:
        """Draw each member's own weights, from its seed alone."""
        fan_out, fan_in = weight_KOI.shape[1:]
        for k, config in enumerate(self.configs):
            chosen = dict(config.init.options)
            gain, bias, value = chosen.pop("gain"), chosen.pop("bias"), chosen.pop("bias_value")
            source = generator(config.seed, "weights", layer)
            weight_KOI[k] = INITIALIZERS[config.init.name].draw(fan_out, fan_in, source, gain, **chosen)
            bias_KO1[k] = draw_bias(bias, value, fan_out, fan_in, source).view(-1, 1)

    def _learned_options(self) -> nn.ParameterDict:
        """Make the options that are trained, such as PReLU's slope: one number a member and hidden layer, [K, 1, 1]."""
        names = {name for s in self.activation_groups for name in s.entry.learned}
        learned = nn.ParameterDict()
        for name in sorted(names):
            start = [float(c.activation.options.get(name, 0.0)) for c in self.configs]
            for layer in range(self.hidden):
                learned[f"{name}_{layer}"] = nn.Parameter(torch.tensor(start).view(-1, 1, 1))
        return learned

    def _add_norms(self) -> None:
        for layer, width in enumerate(self.sizes[1:-1]):
            self.scales.append(nn.Parameter(torch.ones(self.K, width, 1)))
            self.shifts.append(nn.Parameter(torch.zeros(self.K, width, 1)))
            if self.norm == "batch":
                self.register_buffer(f"mean_{layer}", torch.zeros(self.K, width, 1))
                self.register_buffer(f"var_{layer}", torch.ones(self.K, width, 1))

    def count_parameters(self, k: int) -> int:
        """Count the trainable numbers of member k; a learned option counts for the members that use it."""
        own = {f"{name}_{layer}" for name in self._learned_by(k) for layer in range(self.hidden)}
        groups = (self.weights, self.biases, self.scales, self.shifts)
        counted = [*(p for group in groups for p in group), *(self.learned[name] for name in own)]
        return sum(int(p[k].numel()) for p in counted)

    def _learned_by(self, k: int) -> tuple[str, ...]:
        return ACTIVATIONS[self.configs[k].activation.name].learned

    def _expected_parameters(self, k: int) -> int:
        affine = 2 if self.norm != "none" else 0
        plain = sum(i * o + o for i, o in pairwise(self.sizes)) + affine * sum(self.sizes[1:-1])
        return plain + self.hidden * len(self._learned_by(k))

    def forward(self, x_GBI: Tensor, keys_K: Tensor | None = None) -> Tensor:
        """Return the logits [K, C, B] of one minibatch per input stream.

        Args:
            x_GBI: scaled images, one minibatch for each of the G streams.
            keys_K: int64 key of each member's dropout masks in this step; None drops nothing.
        """
        a_KIB = x_GBI
        for layer in range(self.hidden):
            a_KIB = self.between(layer, self.product(layer, a_KIB), keys_K)
        return self.product(self.hidden, a_KIB)

    def between(self, layer: int, z_KOB: Tensor, keys_K: Tensor | None) -> Tensor:
        """Apply what stands between two products: normalization, activation, dropout."""
        return self.activated(layer, self._normalized(layer, z_KOB), keys_K)

    def parameters_between(self, layer: int) -> list[nn.Parameter]:
        """Return the parameters that ``between`` uses in a hidden layer."""
        norms = [self.scales[layer], self.shifts[layer]] if self.norm != "none" else []
        return [*(p for name, p in self.learned.items() if name.endswith(f"_{layer}")), *norms]

    def layerwise(self, x_GBI: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield each hidden layer's pre-activation and activation, [K, O, B], without dropout; then logits twice."""
        a_KIB = x_GBI
        for layer in range(self.hidden):
            z_KOB = self.preactivations(layer, a_KIB)
            a_KIB = self.activated(layer, z_KOB, None)
            yield z_KOB, a_KIB
        logits_KCB = self.product(self.hidden, a_KIB)
        yield logits_KCB, logits_KCB

    def preactivations(self, layer: int, a: Tensor) -> Tensor:
        """Return what the layer's activation receives, [K, O, B]."""
        return self._normalized(layer, self.product(layer, a))

    def product(self, layer: int, a: Tensor, weight_KOI: Tensor | None = None) -> Tensor:
        """Compute weight x input + bias, [K, O, B].

        Args:
            layer: from 0; the first one's input [G, B, I] is shared by each stream's members.
            a: the layer's input.
            weight_KOI: taken instead of the layer's own.
        """
        own_KOI, bias_KO1 = self._linear[layer]
        weight_KOI = own_KOI if weight_KOI is None else weight_KOI
        if layer == 0 and self.fed is not None:
            return self._of_streams(bias_KO1, weight_KOI, a)
        return torch.baddbmm(bias_KO1, weight_KOI, a.mT if layer == 0 else a)

    def _of_streams(self, bias_KO1: Tensor, weight_KOI: Tensor, x_GBI: Tensor) -> Tensor:
        """Compute the first layer where members share inputs: one product for all units that see the same images."""
        (K, O, I), B = weight_KOI.shape, x_GBI.shape[1]
        members, streams = equal_streams(tuple(self.per_stream))
        pieces = zip(split(bias_KO1, members), split(weight_KOI, members), split(x_GBI.mT, streams), strict=True)
        long = [(b.view(len(x), -1, 1), w.view(len(x), -1, I), x) for b, w, x in pieces]
        if len(long) == 1:
            return torch.baddbmm(*long[0]).view(K, O, B)
        if torch.is_grad_enabled():
            return torch.cat([torch.baddbmm(*piece).view(-1, O, B) for piece in long])
        z_KOB = weight_KOI.new_empty(K, O, B)
        for z_mOB, (b, w, x) in zip(split(z_KOB, members), long, strict=True):
            torch.baddbmm(b.to(w.dtype), w, x, out=z_mOB.view(len(x), -1, B))
        return z_KOB

    def activated(self, layer: int, z_KOB: Tensor, keys_K: Tensor | None) -> Tensor:
        """Apply each group's own activation, then dropout."""
        a_KOB = by_group(self.activation_groups, partial(self._activate, layer), z_KOB)
        return self._dropped(layer, a_KOB, keys_K) if self.drops and keys_K is not None else a_KOB

    def _activate(self, layer: int, group: MemberGroup, z_mOB: Tensor) -> Tensor:
        activated: Tensor = group.entry.function(z_mOB, **self.activation_options(group, layer))
        return activated

    def activation_options(self, group: MemberGroup, layer: int) -> dict[str, Any]:
        """Return the options of a group's activation in a hidden layer: numbers, [m, 1, 1] tensors, learned ones."""
        options = group.options_like(self.weights[0])
        if not group.entry.learned:
            return options
        return options | {name: self.learned[f"{name}_{layer}"][group.members] for name in group.entry.learned}

    def _dropped(self, layer: int, a_KOB: Tensor, keys_K: Tensor) -> Tensor:
        """Apply inverted dropout (Srivastava et al. 2014) with each member's own masks and probability."""
        uniform_KOB = hashed_uniform(keys_K + derived_seed(layer, "dropout layer"), *a_KOB.shape[1:])
        kept_K11 = 1 - self.get_buffer("dropout_K11")
        return a_KOB * ((uniform_KOB < kept_K11) / kept_K11).to(a_KOB.dtype)

    def _normalized(self, layer: int, z_KOB: Tensor) -> Tensor:
        """Normalize over B (batch, Ioffe and Szegedy 2015) or over O (layer, Ba et al. 2016)."""
        if self.norm == "none":
            return z_KOB
        if self.norm == "layer":
            var_K1B, mean_K1B = torch.var_mean(z_KOB, dim=1, correction=0, keepdim=True)
            z_KOB = (z_KOB - mean_K1B) * torch.rsqrt(var_K1B + NORM_EPS)
        else:
            running_mean, running_var = self.get_buffer(f"mean_{layer}"), self.get_buffer(f"var_{layer}")
            var, mean = running_var, running_mean
            if self.training:
                count = z_KOB.shape[2]
                var, mean = torch.var_mean(z_KOB, dim=2, correction=0, keepdim=True)
                with torch.no_grad():
                    running_mean.lerp_(mean.to(running_mean.dtype), NORM_MOMENTUM)
                    running_var.lerp_((var * (count / max(count - 1, 1))).to(running_var.dtype), NORM_MOMENTUM)
            z_KOB = (z_KOB - mean) * torch.rsqrt(var + NORM_EPS)
        affine_KOB: Tensor = z_KOB * self.scales[layer] + self.shifts[layer]
        return affine_KOB

    def loss(self, logits_KCB: Tensor, y_KB: Tensor) -> Tensor:
        """Compute each member's own loss of each image, [K, B]; half-precision logits are taken as float32."""
        return by_group(self.loss_groups, self._loss, _exact(logits_KCB), y_KB)

    @staticmethod
    def _loss(group: MemberGroup, logits_mCB: Tensor, y_mB: Tensor) -> Tensor:
        loss_mB: Tensor = group.entry.function(logits_mCB, y_mB, **group.options_like(logits_mCB))
        return loss_mB

    def loss_with_slope(self, logits_KCB: Tensor, y_KB: Tensor) -> tuple[Tensor, Tensor]:
        """Compute ``loss`` and its derivative by the logits, [K, C, B]; neither is differentiable."""
        return by_group(self.loss_groups, self._loss_with_slope, _exact(logits_KCB), y_KB)

    @staticmethod
    def _loss_with_slope(group: MemberGroup, logits_mCB: Tensor, y_mB: Tensor) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = group.entry.with_slope(logits_mCB, y_mB, **group.options_like(logits_mCB))
        return found

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor with a member axis by name: parameters and running statistics."""
        return {**dict(self.named_parameters()), **{k: b for k, b in self.named_buffers() if k != "dropout_K11"}}

    def member(self, k: int) -> dict[str, Tensor]:
        """Copy member k's tensors, without the member axis."""
        return {name: tensor[k].detach().clone() for name, tensor in self.tensors().items()}

    @torch.no_grad()
    def fill(self, k: int, member: dict[str, Tensor]) -> None:
        """Set member k's tensors, as ``member`` returned them."""
        for name, tensor in self.tensors().items():
            tensor[k] = member[name]

    def state_of(self, k: int, member: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return member k's tensors under the names of ``build_sequential``'s state dict."""
        own = member if member is not None else self.member(k)
        state: dict[str, Tensor] = {}
        for name, kind in _modules(self.configs[k], self.sizes):
            layer = int(name.rsplit("_", 1)[1])
            if kind == "linear":
                state |= {f"{name}.weight": own[f"weights.{layer}"], f"{name}.bias": own[f"biases.{layer}"][:, 0]}
            elif kind == "norm":
                state |= {f"{name}.weight": own[f"scales.{layer}"][:, 0], f"{name}.bias": own[f"shifts.{layer}"][:, 0]}
                if self.norm == "batch":
                    state |= {
                        f"{name}.running_mean": own[f"mean_{layer}"][:, 0],
                        f"{name}.running_var": own[f"var_{layer}"][:, 0],
                    }
            elif kind == "activation" and ACTIVATIONS[self.configs[k].activation.name].learned:
                state[f"{name}.weight"] = own[f"learned.slope_{layer}"].view(1)
        return {name: tensor.to(torch.float32).cpu().contiguous() for name, tensor in state.items()}

    def export(self, k: int) -> nn.Sequential:
        """Return member k as a plain ``nn.Sequential`` on scaled images [N, I], in evaluation mode."""
        model = build_sequential(self.configs[k], self.sizes[0], self.sizes[-1])
        model.load_state_dict(self.state_of(k), strict=False)
        return model.eval()

    def select(self, keep: Sequence[int], per_stream: Sequence[int]) -> PopulationMLP:
        """Return a smaller population of the members ``keep``, in that order, with the same numbers."""
        chosen = PopulationMLP(
            [self.configs[k] for k in keep], self.sizes[0], self.sizes[-1], per_stream, draw=False
        ).to(self.weights[0])
        index, mine = torch.tensor(list(keep), device=self.weights[0].device), self.tensors()
        with torch.no_grad():
            for name, tensor in chosen.tensors().items():
                tensor.copy_(mine[name].index_select(0, index))
        return chosen.train(self.training)


def _exact(logits_KCB: Tensor) -> Tensor:
    """Return half-precision logits as float32."""
    return logits_KCB if logits_KCB.dtype == torch.float64 else logits_KCB.float()


def _modules(config: RunConfig, sizes: Sequence[int]) -> Iterator[tuple[str, str]]:
    """Yield (name, kind) of each part of the plain network; a name ends in its layer's number."""
    for layer in range(len(sizes) - 2):
        yield f"linear_{layer}", "linear"
        if config.model.norm != "none":
            yield f"norm_{layer}", "norm"
        yield f"activation_{layer}", "activation"
        if config.model.dropout > 0:
            yield f"dropout_{layer}", "dropout"
    yield f"linear_{len(sizes) - 2}", "linear"


def build_sequential(config: RunConfig, inputs: int, classes: int) -> nn.Sequential:
    """Build a config's plain network, untrained: Linear, normalization, activation and dropout modules.

    Raises:
        ConfigError: the config names a normalization without a module.
    """
    sizes = [inputs, *config.model.widths, classes]
    norms: dict[str, Callable[[int], nn.Module]] = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
    entry = ACTIVATIONS[config.activation.name]
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    for name, kind in _modules(config, sizes):
        layer = int(name.rsplit("_", 1)[1])
        if kind == "linear":
            parts[name] = nn.Linear(sizes[layer], sizes[layer + 1])
        elif kind == "norm":
            if config.model.norm not in norms:
                raise ConfigError(f"model.norm={config.model.norm} has no plain module")
            parts[name] = norms[config.model.norm](sizes[layer + 1])
        elif kind == "activation":
            parts[name] = entry.module(**config.activation.options)
        else:
            parts[name] = nn.Dropout(config.model.dropout)
    return nn.Sequential(parts)
