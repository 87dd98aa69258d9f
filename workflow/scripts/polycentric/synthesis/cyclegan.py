"""The cycle-GAN: networks, optimizers and one iteration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..networks import weights
from ..networks.discriminator import Discriminator
from ..networks.generator import Generator
from ..networks.layers import LAYOUT, initialise
from ..randomness import generator as stream
from ..randomness import integer_seed
from ..training import patches, state
from .losses import absolute, least_squares
from .pool import ImagePool

if TYPE_CHECKING:
    from ..config.synthesis import Synthesis

NETWORKS = ("forward", "backward", "source", "target")


def generator(settings: Synthesis) -> Generator:
    """A generator as the settings say, with undrawn weights, on the CPU."""
    layout = settings.generator
    network = Generator(
        settings.dimensions,
        width=layout.width,
        downs=layout.downs,
        residual_blocks=layout.residual_blocks,
        kernel=layout.kernel,
        skip=layout.skip,
    )
    return network.to(memory_format=LAYOUT[settings.dimensions])


def discriminator(settings: Synthesis) -> Discriminator:
    """A discriminator as the settings say, with undrawn weights, on the CPU."""
    network = Discriminator(
        settings.dimensions, width=settings.discriminator.width, layers=settings.discriminator.layers
    )
    return network.to(memory_format=LAYOUT[settings.dimensions])


class CycleGan:
    """Unpaired translation between two domains (Zhu et al. 2017).

    `forward` maps source to target, `backward` target to source; the discriminators `source` and `target` judge images
    of their domain. `names` identify the random streams: (stage, model, fold).
    """

    losses = ("adversarial_forward", "adversarial_backward", "cycle_forward", "cycle_backward", "identity_forward",
              "identity_backward", "discriminator_source", "discriminator_target")  # fmt: skip

    def __init__(
        self,
        settings: Synthesis,
        source: patches.PatchSampler,
        target: patches.PatchSampler,
        *,
        seed: int,
        names: tuple[str, ...],
        device: torch.device,
    ) -> None:
        self.settings, self.device = settings, device
        self.samplers = {"source": source, "target": target}
        self.networks = {
            "forward": generator(settings),
            "backward": generator(settings),
            "source": discriminator(settings),
            "target": discriminator(settings),
        }
        for name, network in self.networks.items():
            initialise(network, integer_seed(seed, *names, "weights", name), deviation=0.02)
            network.to(device)
        self.optimizers = {"generators": self._adam("forward", "backward"), "discriminators": self._adam(*NETWORKS[2:])}
        shape = (1, *reversed(settings.patch))
        self.pools = {
            domain: ImagePool(settings.pool, shape, stream(seed, *names, "pool", domain), device)
            for domain in ("source", "target")
        }

    def _adam(self, *names: str) -> torch.optim.Adam:
        parameters = [p for name in names for p in self.networks[name].parameters()]
        return torch.optim.Adam(parameters, self.settings.learning_rate, self.settings.betas, fused=True)

    def draw(self, domain: str) -> Tensor:
        """Random patches of a domain, (batch, 1, [z,] y, x) in [-1, 1]."""
        sampler = self.samplers[domain]
        drawn = []
        for _ in range(self.settings.batch):
            number, origin = sampler.origin()
            patch = patches.cut(sampler.volumes[number], origin, sampler.size)
            drawn.append(patches.scale(patch, self.settings.hu_range))
        dimensions = self.settings.dimensions
        tensor = torch.from_numpy(patches.batch(drawn, dimensions)).to(self.device)
        return tensor.contiguous(memory_format=LAYOUT[dimensions])

    def step(self) -> Tensor:
        return self.update(self.draw("source"), self.draw("target"))

    def update(self, a: Tensor, b: Tensor) -> Tensor:
        """One iteration on patches `a` of the source and `b` of the target; returns the unweighted losses.

        The two passes of a generator over real images (translation and identity) are one with twice the batch, and so
        are those of a discriminator over real and synthetic ones: all sums are per image, so the result is the same.
        """
        forward, backward, judge_a, judge_b = (self.networks[name] for name in NETWORKS)
        weight = self.settings.losses
        n = len(a)
        for judge in (judge_a, judge_b):
            state.freeze(judge, True)
        if weight.identity > 0:
            fake_b, same_b = forward(torch.cat([a, b])).split(n)
            fake_a, same_a = backward(torch.cat([b, a])).split(n)
            identity = [absolute(same_b, b), absolute(same_a, a)]
        else:
            fake_b, fake_a = forward(a), backward(b)
            identity = [a.new_zeros(()), a.new_zeros(())]
        adversarial = [least_squares(judge_b(fake_b), True), least_squares(judge_a(fake_a), True)]
        cycle = [absolute(backward(fake_b), a), absolute(forward(fake_a), b)]
        loss = (
            weight.adversarial_weight * (adversarial[0] + adversarial[1])
            + weight.cycle.forward * cycle[0]
            + weight.cycle.backward * cycle[1]
            + weight.identity * (identity[0] + identity[1])
        )
        self.optimizers["generators"].zero_grad(set_to_none=True)
        loss.backward()
        self.optimizers["generators"].step()

        for judge in (judge_a, judge_b):
            state.freeze(judge, False)
        judged = []
        for judge, real, fake, domain in ((judge_a, a, fake_a, "source"), (judge_b, b, fake_b, "target")):
            shown = self.pools[domain].exchange(fake.detach())
            on_real, on_fake = judge(torch.cat([real, shown])).split(n)
            # half, so that the discriminators learn more slowly (Zhu et al. 2017, section 7.1)
            judged.append(0.5 * (least_squares(on_real, True) + least_squares(on_fake, False)))
        self.optimizers["discriminators"].zero_grad(set_to_none=True)
        (judged[0] + judged[1]).backward()
        self.optimizers["discriminators"].step()
        return torch.stack([x.detach() for x in (*adversarial, *cycle, *identity, *judged)]).float()

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
