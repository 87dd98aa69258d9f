"""The cycle-GAN: networks, optimizers and one iteration."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ..networks import weights
from ..networks.devices import Arithmetic
from ..networks.discriminator import Discriminator
from ..networks.generator import Generator
from ..networks.layers import LAYOUT, advance, initialise
from ..randomness import generator as stream
from ..randomness import integer_seed
from ..training import patches, state
from ..training.feed import Feed
from ..training.team import Team
from ..training.watch import Variety, Watch
from .losses import absolute, judge, ssim
from .pool import ImagePool
from .schedule import share

if TYPE_CHECKING:
    from ..config.synthesis import Synthesis
    from .domains import Images

GENERATORS = ("forward", "backward")
LAST = 0.3  # of the last convolution's weights by He's rule, so that the tanh begins unsaturated


def judges(inputs: int) -> tuple[str, ...]:
    """Names of the discriminators: one per input of the source, then that of the target."""
    return (*(f"source_{n}" if n > 1 else "source" for n in range(1, inputs + 1)), "target")


def loss_names(inputs: int) -> tuple[str, ...]:
    """Names of the losses of an iteration, in their order."""
    sources = judges(inputs)[:-1]
    return (
        "adversarial_forward",
        *(f"adversarial_backward{name.removeprefix('source')}" for name in sources),
        "cycle_forward",
        "cycle_backward",
        "identity_forward",
        "identity_backward",
        *(f"discriminator_{name}" for name in judges(inputs)),
    )


def generator(settings: Synthesis, direction: str = "forward") -> Generator:
    """A generator as the settings say, with undrawn weights, on the CPU.

    `forward` maps the inputs of the source to an image of the target, `backward` that to as many images.
    """
    layout = settings.generator
    several = settings.inputs
    network = Generator(
        settings.dimensions,
        width=layout.width,
        downs=layout.downs,
        residual_blocks=layout.residual_blocks,
        kernel=layout.kernel,
        skip=layout.skip,
        padding=layout.padding,
        norm=layout.norm,
        upsampling=layout.upsampling,
        inputs=several if direction == "forward" else 1,
        outputs=1 if direction == "forward" else several,
        branch_blocks=layout.branch_blocks,
        merge=layout.merge,
        tanh=layout.tanh,
        slope=layout.slope,
    )
    return network.to(memory_format=LAYOUT[settings.dimensions])


def discriminator(settings: Synthesis) -> Discriminator:
    """A discriminator of one image as the settings say, with undrawn weights, on the CPU."""
    layout = settings.discriminator
    network = Discriminator(
        settings.dimensions,
        width=layout.width,
        layers=layout.layers,
        flat=layout.flat,
        norm=layout.norm,
        norm_first=layout.norm_first,
        slope=layout.slope,
    )
    return network.to(memory_format=LAYOUT[settings.dimensions])


class CycleGan:
    """Unpaired translation between two domains (Zhu et al. 2017), the source of one or several images per patient.

    `networks` holds the generators `forward` (source to target) and `backward`, and the discriminators: one for each
    input of the source, one for the target. `names` identify the random streams: (stage, model, fold).
    """

    def __init__(
        self,
        settings: Synthesis,
        source: Images,
        target: Images,
        *,
        seed: int,
        names: tuple[str, ...],
        device: torch.device,
        team: Team | None = None,
    ) -> None:
        self.settings, self.device, self.team = settings, device, team or Team()
        self.arithmetic = Arithmetic(device)
        self.samplers = {"source": source, "target": target}
        self.judges, self.losses = judges(settings.inputs), loss_names(settings.inputs)
        self.networks: dict[str, nn.Module] = {name: generator(settings, name) for name in GENERATORS}
        self.networks |= {name: discriminator(settings) for name in self.judges}
        for name, network in self.networks.items():
            part = settings.generator if name in GENERATORS else settings.discriminator
            # without normalisation so small weights would let the signal die away from layer to layer
            deviation = 0.02 if part.norm in ("instance", "batch") else None
            last = LAST if deviation is None else 1.0
            if name in GENERATORS and settings.generator.first is not None:
                last = settings.generator.first
            initialise(network, integer_seed(seed, *names, "weights", name), deviation, last=last)
            network.to(device)
        # the weights to translate with: the generators' own, or running means of them
        self.results = {name: self.networks[name] for name in GENERATORS}
        if settings.average is not None:
            self.results = {
                name: copy.deepcopy(network).requires_grad_(False) for name, network in self.results.items()
            }
        self.optimizers = {"generators": self._adam(*GENERATORS), "discriminators": self._adam(*self.judges)}
        size = tuple(reversed(settings.patch))
        self.pools = {
            domain: ImagePool(settings.pool, (channels, *size), stream(seed, *names, "pool", domain), device)
            for domain, channels in (("source", settings.inputs), ("target", 1))
        }
        self.varieties = {
            "forward": Variety(1, settings.dimensions, device),
            "backward": Variety(settings.inputs, settings.dimensions, device),
        }
        self.iteration = 0
        self.strengths = partial(stream, seed, *names, "strength")
        ahead = not all(sampler.store.resident for sampler in self.samplers.values())
        self.feed = Feed(self._cut, self._streams, self._set_streams, ahead=ahead)
        self.data_s = 0.0

    def _adam(self, *names: str) -> torch.optim.Adam:
        parameters = [p for name in names for p in self.networks[name].parameters()]
        return torch.optim.Adam(parameters, self.settings.learning_rate, self.settings.betas, fused=True)

    def _cut(self) -> dict[str, tuple[list[Any], list[list[Tensor]]]]:
        """This process's share of the next patches of each domain, as they are stored."""
        own = self.team.share(self.settings.batch)
        drawn = {}
        for domain, sampler in self.samplers.items():
            picked = sampler.pick(self.settings.batch)[own]
            drawn[domain] = (picked, sampler.cut(picked))
        return drawn

    def _streams(self) -> dict[str, Any]:
        return {name: sampler.state() for name, sampler in self.samplers.items()}

    def _set_streams(self, record: dict[str, Any]) -> None:
        for name, sampler in self.samplers.items():
            sampler.restore(record[name])

    def draw(self, domain: str) -> Tensor:
        """Random patches of a domain, (batch, inputs, [z,] y, x) in [-1, 1]."""
        return self.laid(self.samplers[domain].draw(self.settings.batch))

    def laid(self, drawn: Tensor) -> Tensor:
        """Patches (batch, inputs, z, y, x) as networks take them: without z for slices, channels last in memory."""
        dimensions = self.settings.dimensions
        return (drawn[:, :, 0] if dimensions == 2 else drawn).contiguous(memory_format=LAYOUT[dimensions])

    def passing(self, name: str) -> Callable[[Tensor], Tensor]:
        """A network's pass in the precision of the training; the result is float32."""

        def call(x: Tensor) -> Tensor:
            with self.arithmetic.cast():
                return self.networks[name](x).float()

        return call

    def set_rates(self) -> None:
        """Give the optimizers the learning rate of this iteration."""
        settings = self.settings
        rate = settings.learning_rate * share(settings.schedule, self.iteration, settings.iterations)
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = rate

    def step(self) -> Tensor:
        self.set_rates()
        begun = time.perf_counter()
        drawn = self.feed.next()
        images = [self.laid(sampler.finish(*drawn[domain])) for domain, sampler in self.samplers.items()]
        self.data_s += time.perf_counter() - begun
        losses = self.update(*images)
        self.iteration += 1
        return losses

    def update(self, a: Tensor, b: Tensor) -> Tensor:
        """One iteration on patches `a` of the source and `b` of the target; returns the unweighted losses.

        The two passes of a generator over real images (translation and identity) are one with twice the batch, and so
        are those of a discriminator over real and synthetic ones: all sums are per image, so the result is the same.
        Networks with batch normalisation, whose sums are not, get their passes one by one.
        """
        forward, backward = (self.passing(name) for name in GENERATORS)
        weight = self.settings.losses
        zero = a.new_zeros(())
        for name in self.judges:
            state.freeze(self.networks[name], True)
        apart = self.settings.generator.norm == "batch"
        if weight.identity > 0:
            fake_b, same_b = together(forward, (a, b), apart)
            fake_a, same_a = together(backward, (b, a), apart)
            identity = [absolute(same_b, b), absolute(same_a, a)]
        else:
            fake_b, fake_a = forward(a), backward(b)
            identity = [zero, zero]
        kind, sigmoid = weight.adversarial, self.settings.discriminator.sigmoid
        fooled = [
            judge(kind, self.passing(name)(fake), True, sigmoid=sigmoid)
            for name, fake in zip(("target", *self.judges[:-1]), (fake_b, *fake_a.split(1, 1)), strict=True)
        ]
        cycle = [
            self.difference(back(fake), real) if how_much > 0 else zero
            for back, fake, real, how_much in (
                (backward, fake_b, a, weight.cycle.forward),
                (forward, self.strengthened(fake_a, b), b, weight.cycle.backward),
            )
        ]
        loss = (
            weight.adversarial_weight * sum(fooled[1:], fooled[0])
            + weight.cycle.forward * cycle[0]
            + weight.cycle.backward * cycle[1]
            + weight.identity * (identity[0] + identity[1])
        )
        self.optimizers["generators"].zero_grad(set_to_none=True)
        loss.backward()
        self.team.mean_gradients(self.optimizers["generators"])
        if self.settings.gradient_limit is not None:
            parameters = [p for name in GENERATORS for p in self.networks[name].parameters()]
            nn.utils.clip_grad_norm_(parameters, self.settings.gradient_limit)
        self.optimizers["generators"].step()
        self.average()

        for name in self.judges:
            state.freeze(self.networks[name], False)
        self.varieties["forward"].add(*(self.team.gather(Variety.coarse(x)) for x in (fake_b, b)))
        self.varieties["backward"].add(*(self.team.gather(Variety.coarse(x)) for x in (fake_a, a)))
        # pools take the patches of all processes, so that they are the same everywhere
        own = self.team.share(len(a) * self.team.size)
        shown_a, shown_b = (
            self.pools[domain].exchange(self.team.gather(fake.detach()))[own]
            for domain, fake in (("source", fake_a), ("target", fake_b))
        )
        kind = weight.discriminator or ("bce" if weight.adversarial == "minimax" else weight.adversarial)
        apart = self.settings.discriminator.norm == "batch"
        judged = []
        for name, real, shown in zip(self.judges, (*a.split(1, 1), b), (*shown_a.split(1, 1), shown_b), strict=True):
            on_real, on_fake = together(self.passing(name), (real, shown), apart)
            # half, so that the discriminators learn more slowly (Zhu et al. 2017, section 7.1)
            judged.append(
                0.5 * (judge(kind, on_real, True, sigmoid=sigmoid) + judge(kind, on_fake, False, sigmoid=sigmoid))
            )
        self.optimizers["discriminators"].zero_grad(set_to_none=True)
        sum(judged[1:], judged[0]).backward()
        self.team.mean_gradients(self.optimizers["discriminators"])
        self.optimizers["discriminators"].step()
        for name in self.judges:
            advance(self.networks[name])
        losses = torch.stack([x.detach() for x in (*fooled, *cycle, *identity, *judged)]).float()
        self.team.mean_([losses])
        return losses

    @torch.no_grad()
    def average(self) -> None:
        """Move the running means of the generators' weights towards the weights of this iteration.

        The share of the old mean rises to that of the settings as (1 + i) / (10 + i), so that the weights of the start
        are soon forgotten. Statistics of batch normalisation are averaged alike; counts are copied.
        """
        if self.settings.average is None:
            return
        moved = 1 - min(self.settings.average, (1 + self.iteration) / (10 + self.iteration))
        for name, result in self.results.items():
            new = self.networks[name].state_dict()
            for key, mean in result.state_dict().items():
                mean.lerp_(new[key], moved) if mean.is_floating_point() else mean.copy_(new[key])

    def strengthened(self, fake: Tensor, real: Tensor) -> Tensor:
        """Synthetic patches of the source whose change against the real ones of the target is as strong as is drawn.

        A number for each patch of the batch, from a stream of this iteration's own.
        """
        limits = self.settings.losses.cycle.strength
        if limits == (1.0, 1.0):
            return fake
        drawn = self.strengths(str(self.iteration)).uniform(*limits, self.settings.batch)
        own = drawn[self.team.share(len(drawn))].reshape(-1, *[1] * (real.ndim - 1))
        return real + torch.from_numpy(own).to(real) * (fake - real)

    def difference(self, back: Tensor, real: Tensor) -> Tensor:
        """Cycle loss between what came back and what was sent."""
        cycle = self.settings.losses.cycle
        if cycle.measure == "l1":
            return absolute(back, real)
        window = cycle.similarity
        unlike = 1 - ssim(back, real, window=window.window, size=window.size, sigma=window.sigma)
        return unlike if cycle.measure == "ssim" else (absolute(back, real) + unlike) / 2

    def examples(self) -> list[tuple[nn.Module, Tensor]]:
        """Each network with patches of the shapes that it is trained on: two batches at once, then one."""
        settings = self.settings
        batch = settings.batch // self.team.size
        drawn = torch.Generator().manual_seed(0)
        found = []
        for name, network in self.networks.items():
            channels = settings.inputs if name == "forward" else 1
            for several in (2, 1):
                x = torch.randn(several * batch, channels, *patches.full_size(settings.patch), generator=drawn)
                found.append((network, self.laid(x.tanh().to(self.device))))
        return found

    def observe(self) -> dict[str, float | None]:
        """Further columns of the history: how much synthetic patches vary, as a share of what real ones do."""
        return {f"variety_{name}": variety.take() for name, variety in self.varieties.items()}

    def watch(self) -> Watch:
        """What is watched: varieties, identities, and each discriminator against what its loss is by mere chance."""
        weight = self.settings.losses
        kind = weight.discriminator or weight.adversarial
        chance = 0.25 if kind == "least-squares" else math.log(2)
        columns = {name: chance for name in self.losses if name.startswith("discriminator")}
        identities = [name for name in self.losses if name.startswith("identity")]
        return Watch([f"variety_{name}" for name in self.varieties], columns, self.settings.iterations, identities)

    @torch.no_grad()
    def pictures(self, regions: dict[str, list[Tensor]]) -> list[list[np.ndarray]]:
        """Middle slices of regions (1, inputs, z, y, x) of each domain: as they are, translated, and back again.

        By the weights that `weights` gives. Of several inputs the first is shown. Each (y, x) in [-1, 1].
        """
        rows = []
        ways = {"source": GENERATORS, "target": tuple(reversed(GENERATORS))}
        for network in self.results.values():
            network.eval()  # for normalisation by batch

        def through(name: str, x: Tensor) -> Tensor:
            with self.arithmetic.cast():
                return self.results[name].forward(x).float()  # eager: a compiled network would be compiled anew for x

        for domain, (there, back) in ways.items():
            for region in regions[domain]:
                x = self.laid(region)
                y = through(there, x)
                shown = (image[0, 0] for image in (x, y, through(back, y)))
                rows.append([(i if i.ndim == 2 else i[i.shape[0] // 2]).cpu().numpy() for i in shown])
        for network in self.results.values():
            network.train()
        return rows

    def start(self, tensors: dict[str, Tensor]) -> None:
        """Take the weights of both generators from a trained model, as `weights` gives them."""
        for name in GENERATORS:
            weights.into(self.networks[name], tensors, name)
            weights.into(self.results[name], tensors, name)

    def weights(self) -> dict[str, Tensor]:
        """Weights of both generators to translate with."""
        return weights.of(self.results["forward"], "forward") | weights.of(self.results["backward"], "backward")

    def tensors(self) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {}
        for name, network in self.networks.items():
            tensors |= weights.of(network, f"network.{name}")
        if self.settings.average is not None:
            for name, network in self.results.items():
                tensors |= weights.of(network, f"average.{name}")
        for name, optimizer in self.optimizers.items():
            tensors |= state.of_optimizer(optimizer, f"optimizer.{name}")
        tensors |= {f"variety.{name}": variety.sums for name, variety in self.varieties.items()}
        return tensors | {f"pool.{name}": pool.images for name, pool in self.pools.items()}

    def state(self) -> dict[str, Any]:
        return {
            "iteration": self.iteration,
            "samplers": self.feed.state(),
            "varieties": {name: variety.count for name, variety in self.varieties.items()},
            "pools": {name: pool.state() for name, pool in self.pools.items()},
        }

    def restore(self, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
        for name, network in self.networks.items():
            weights.into(network, tensors, f"network.{name}")
        if self.settings.average is not None:
            for name, network in self.results.items():
                weights.into(network, tensors, f"average.{name}")
        for name, optimizer in self.optimizers.items():
            state.into_optimizer(optimizer, tensors, f"optimizer.{name}")
        self.feed.restore(record["samplers"])
        for name, variety in self.varieties.items():
            variety.sums.copy_(tensors[f"variety.{name}"])
            variety.count = record["varieties"][name]
        for name, pool in self.pools.items():
            pool.restore(tensors[f"pool.{name}"], record["pools"][name])
        self.iteration = record["iteration"]


def together(network: Callable[[Tensor], Tensor], images: Sequence[Tensor], apart: bool) -> Sequence[Tensor]:
    """Outputs of a network for several batches of equal size: in one pass, or `apart` from each other."""
    if apart:
        return [network(image) for image in images]
    return network(torch.cat(list(images))).split(len(images[0]))
