"""What keeps a training of the cycle-GAN on its way: a start without change, limits, strengths of change."""

import numpy as np
import pydantic
import pytest
import torch
from polycentric.config.synthesis import Synthesis
from polycentric.networks.generator import Generator
from polycentric.networks.layers import initialise, parameters
from polycentric.randomness import generator as stream
from polycentric.synthesis import cyclegan
from polycentric.synthesis.augment import Augmenter
from polycentric.synthesis.domains import Images
from polycentric.synthesis.losses import absolute
from polycentric.synthesis.schedule import share

SKIP = {"width": 2, "downs": 1, "residual_blocks": 1, "kernel": 3, "norm": "none", "skip": True}
TINY = {
    "split": "main",
    "source": {"view": "ct", "where": "contrast == 'yes'"},
    "target": {"view": "ct", "where": "contrast == 'no'"},
    "dimensions": 2,
    "iterations": 6,
    "patch": [8, 8],
    "batch": 4,
    "generator": SKIP,
    "discriminator": {"width": 2, "layers": 1},
    "pool": 0,
    "threads": 1,
}


def model(seed: int = 3, **changes) -> cyclegan.CycleGan:
    settings = Synthesis(**(TINY | changes))
    rng = np.random.default_rng(5)
    samplers = [
        Images([(rng.normal(0, 400, (5, 9, 10)),)], [(1.0, 1.0, 2.0)], (1, 8, 8), ((-1000.0, 1000.0),),
               stream(1, domain), Augmenter(settings.augment, stream(2, domain)))
        for domain in "ab"
    ]  # fmt: skip
    return cyclegan.CycleGan(settings, *samplers, seed=seed, names=("t",), device=torch.device("cpu"))


def gradients(gan: cyclegan.CycleGan) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for name in cyclegan.GENERATORS for p in gan.networks[name].parameters()])


def test_a_training_may_begin_with_unchanged_images() -> None:
    for norm in ("none", "instance"):
        gan = model(generator=SKIP | {"first": 0, "tanh": False, "norm": norm})
        a, b = gan.draw("source"), gan.draw("target")
        for name in cyclegan.GENERATORS:
            assert torch.equal(gan.networks[name](a), a)
        losses = dict(zip(gan.losses, gan.update(a, b).tolist(), strict=True))
        assert all(losses[n] == 0 for n in gan.losses if n.startswith(("cycle", "identity")))
        assert not torch.equal(gan.networks["forward"](a), a)  # and learns


def test_without_a_tanh_a_change_has_no_bound() -> None:
    x = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    changes, weights = {}, {}
    for tanh in (True, False):
        network = Generator(2, width=2, downs=1, residual_blocks=1, norm="none", skip=True, tanh=tanh)
        initialise(network, 1, last=100)
        changes[tanh], weights[tanh] = network(x) - x, network.state_dict()
    torch.testing.assert_close(changes[True], torch.tanh(changes[False]))
    assert changes[False].abs().max() > 5
    assert weights[True].keys() == weights[False].keys()


def test_leaky_rectifiers_pass_what_lies_below_zero() -> None:
    plain, leaky = (Generator(2, width=2, downs=1, residual_blocks=1, norm="none", slope=s) for s in (0.0, 0.1))
    assert parameters(plain) == parameters(leaky)
    gone = {}
    for name, network in (("plain", plain), ("leaky", leaky)):
        initialise(network, 1)
        with torch.no_grad():
            network.layers[1].bias.fill_(-100.0)  # nothing exceeds the first rectifier
        network(torch.rand(1, 1, 8, 8)).sum().backward()
        gone[name] = network.layers[1].weight.grad.abs().max().item() == 0
    assert gone == {"plain": True, "leaky": False}


def test_gradients_above_the_limit_keep_their_direction() -> None:
    free, limited, loose = (model(gradient_limit=limit) for limit in (None, 0.01, 1e6))
    a, b = free.draw("source"), free.draw("target")
    for gan in (free, limited, loose):
        gan.update(a, b)
    whole, cut = gradients(free), gradients(limited)
    assert whole.norm() > 0.1
    assert cut.norm().item() == pytest.approx(0.01, rel=1e-3)
    assert torch.nn.functional.cosine_similarity(whole, cut, dim=0).item() == pytest.approx(1, abs=1e-5)
    assert torch.equal(gradients(loose), whole)


def test_the_rate_rises_at_first() -> None:
    settings = Synthesis(**(TINY | {"schedule": {"kind": "linear", "start": 3, "warm_up": 4}})).schedule
    found = [share(settings, i, 6) for i in range(6)]
    assert found == pytest.approx([1 / 4, 2 / 4, 3 / 4, 1, 2 / 3, 1 / 3])


def test_changes_are_taken_back_in_several_strengths() -> None:
    losses = {"cycle": {"forward": 0, "backward": 5, "strength": [0.3, 1.8]}}
    gan, other, plain = model(losses=losses), model(seed=4, losses=losses), model()
    a, b = gan.draw("source"), gan.draw("target")
    fake = gan.networks["backward"](b)
    assert plain.strengthened(fake, b) is fake

    def strengths(gan: cyclegan.CycleGan) -> np.ndarray:
        change = (gan.strengthened(fake, b) - b).flatten(1) / (fake - b).flatten(1)
        torch.testing.assert_close(change, change[:, :1].expand_as(change), rtol=1e-3, atol=1e-3)  # one for a patch
        return change.detach().mean(1).numpy()

    drawn = []
    for gan.iteration in range(100):
        drawn.append(strengths(gan))
    found = np.concatenate(drawn)
    assert 0.3 <= found.min() < 0.4
    assert 1.7 < found.max() <= 1.8
    assert found.mean() == pytest.approx(1.05, abs=0.08)
    assert len(set(np.round(drawn[0], 4))) == 4
    gan.iteration = 7  # as after a restart
    assert np.allclose(strengths(gan), drawn[7])
    assert not np.allclose(strengths(other), drawn[0])
    # the loss of the cycle is that of the changed strength
    sent = gan.strengthened(fake, b)
    expected = absolute(gan.networks["forward"](sent), b).item()
    assert dict(zip(gan.losses, gan.update(a, b).tolist(), strict=True))["cycle_backward"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"losses": {"cycle": {"strength": [1.8, 0.3]}}}, r"strength \[1.8, 0.3\] must rise from 0"),
        ({"losses": {"cycle": {"strength": [-1, 1]}}}, "must rise from 0 or more"),
        ({"losses": {"cycle": {"strength": [0.5, 2]}}, "generator": SKIP | {"skip": False}}, "write generator: {skip"),
        ({"losses": {"cycle": {"strength": [0.5, 2], "backward": 0}}}, "a weight for backward"),
        ({"schedule": {"warm_up": 6}}, "warm_up 6 leaves none of 6 iterations"),
        ({"gradient_limit": 0}, "greater than 0"),
    ],
)
def test_bad_settings_say_what_to_write(changes: dict, message: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=message):
        Synthesis(**(TINY | changes))
