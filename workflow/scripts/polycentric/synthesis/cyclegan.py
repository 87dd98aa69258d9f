"""The cycle-GAN: networks, optimizers and one iteration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..networks import weights
from ..networks.discriminator import Discriminator
from ..networks.generator import Generator
from ..networks.layers import LAYOUT, initialise
from ..randomness import generator as stream
from ..randomness import integer_seed
from ..training import state
from .losses import absolute, judge, ssim
from .pool import ImagePool
from .schedule import share

if TYPE_CHECKING:
    from ..config.synthesis import Synthesis
    from .domains import Images

GENERATORS = ("forward", "backward")


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
    ) -> None:
        self.settings, self.device = settings, device
        self.samplers = {"source": source, "target": target}
        self.judges, self.losses = judges(settings.inputs), loss_names(settings.inputs)
        self.networks: dict[str, nn.Module] = {name: generator(settings, name) for name in GENERATORS}
        self.networks |= {name: discriminator(settings) for name in self.judges}
        for name, network in self.networks.items():
            initialise(network, integer_seed(seed, *names, "weights", name), deviation=0.02)
            network.to(device)
        self.optimizers = {"generators": self._adam(*GENERATORS), "discriminators": self._adam(*self.judges)}
        size = tuple(reversed(settings.patch))
        self.pools = {
            domain: ImagePool(settings.pool, (channels, *size), stream(seed, *names, "pool", domain), device)
            for domain, channels in (("source", settings.inputs), ("target", 1))
        }
        self.iteration = 0

    def _adam(self, *names: str) -> torch.optim.Adam:
        parameters = [p for name in names for p in self.networks[name].parameters()]
        return torch.optim.Adam(parameters, self.settings.learning_rate, self.settings.betas, fused=True)

    def draw(self, domain: str) -> Tensor:
        """Random patches of a domain, (batch, inputs, [z,] y, x) in [-1, 1]."""
        drawn = self.samplers[domain].draw(self.settings.batch)
        dimensions = self.settings.dimensions
        tensor = (drawn[:, :, 0] if dimensions == 2 else drawn).to(self.device)
        return tensor.contiguous(memory_format=LAYOUT[dimensions])

    def set_rates(self) -> None:
        """Give the optimizers the learning rate of this iteration."""
        settings = self.settings
        rate = settings.learning_rate * share(settings.schedule, self.iteration, settings.iterations)
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = rate

    def step(self) -> Tensor:
        self.set_rates()
        losses = self.update(self.draw("source"), self.draw("target"))
        self.iteration += 1
        return losses

    def update(self, a: Tensor, b: Tensor) -> Tensor:
        """One iteration on patches `a` of the source and `b` of the target; returns the unweighted losses.

        The two passes of a generator over real images (translation and identity) are one with twice the batch, and so
        are those of a discriminator over real and synthetic ones: all sums are per image, so the result is the same.
        Networks with batch normalisation, whose sums are not, get their passes one by one.
        """
        forward, backward = (self.networks[name] for name in GENERATORS)
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
            judge(kind, self.networks[name](fake), True, sigmoid=sigmoid)
            for name, fake in zip(("target", *self.judges[:-1]), (fake_b, *fake_a.split(1, 1)), strict=True)
        ]
        cycle = [
            self.difference(back(fake), real) if how_much > 0 else zero
            for back, fake, real, how_much in (
                (backward, fake_b, a, weight.cycle.forward),
                (forward, fake_a, b, weight.cycle.backward),
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
        self.optimizers["generators"].step()

        for name in self.judges:
            state.freeze(self.networks[name], False)
        shown_a, shown_b = (
            self.pools["source"].exchange(fake_a.detach()),
            self.pools["target"].exchange(fake_b.detach()),
        )
        kind = weight.discriminator or ("bce" if weight.adversarial == "minimax" else weight.adversarial)
        apart = self.settings.discriminator.norm == "batch"
        judged = []
        for name, real, shown in zip(self.judges, (*a.split(1, 1), b), (*shown_a.split(1, 1), shown_b), strict=True):
            on_real, on_fake = together(self.networks[name], (real, shown), apart)
            # half, so that the discriminators learn more slowly (Zhu et al. 2017, section 7.1)
            judged.append(
                0.5 * (judge(kind, on_real, True, sigmoid=sigmoid) + judge(kind, on_fake, False, sigmoid=sigmoid))
            )
        self.optimizers["discriminators"].zero_grad(set_to_none=True)
        sum(judged[1:], judged[0]).backward()
        self.optimizers["discriminators"].step()
        return torch.stack([x.detach() for x in (*fooled, *cycle, *identity, *judged)]).float()

    def difference(self, back: Tensor, real: Tensor) -> Tensor:
        """Cycle loss between what came back and what was sent."""
        cycle = self.settings.losses.cycle
        if cycle.measure == "l1":
            return absolute(back, real)
        window = cycle.similarity
        unlike = 1 - ssim(back, real, window=window.window, size=window.size, sigma=window.sigma)
        return unlike if cycle.measure == "ssim" else (absolute(back, real) + unlike) / 2

    def start(self, tensors: dict[str, Tensor]) -> None:
        """Take the weights of both generators from a trained model, as `weights` gives them."""
        for name in GENERATORS:
            weights.into(self.networks[name], tensors, name)

    def weights(self) -> dict[str, Tensor]:
        """Weights of both generators."""
        return weights.of(self.networks["forward"], "forward") | weights.of(self.networks["backward"], "backward")

    def tensors(self) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {}
        for name, network in self.networks.items():
            tensors |= weights.of(network, f"network.{name}")
        for name, optimizer in self.optimizers.items():
            tensors |= state.of_optimizer(optimizer, f"optimizer.{name}")
        return tensors | {f"pool.{name}": pool.images for name, pool in self.pools.items()}

    def state(self) -> dict[str, Any]:
        return {
            "iteration": self.iteration,
            "samplers": {name: sampler.state() for name, sampler in self.samplers.items()},
            "pools": {name: pool.state() for name, pool in self.pools.items()},
        }

    def restore(self, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
        for name, network in self.networks.items():
            weights.into(network, tensors, f"network.{name}")
        for name, optimizer in self.optimizers.items():
            state.into_optimizer(optimizer, tensors, f"optimizer.{name}")
        for name, sampler in self.samplers.items():
            sampler.restore(record["samplers"][name])
        for name, pool in self.pools.items():
            pool.restore(tensors[f"pool.{name}"], record["pools"][name])
        self.iteration = record["iteration"]


def together(network: nn.Module, images: Sequence[Tensor], apart: bool) -> Sequence[Tensor]:
    """Outputs of a network for several batches of equal size: in one pass, or `apart` from each other."""
    if apart:
        return [network(image) for image in images]
    return network(torch.cat(list(images))).split(len(images[0]))
