"""Section `synthesis`: unpaired image translation."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from .base import Expression, ImportedWeights, Name, Section
from .inference import Size, SynthesisInference, check_size

Device = Literal["auto", "cpu", "cuda"]


class Domain(Section):
    """The scans of one side of a translation."""

    view: Name = Field(description="view that the images are taken from")
    where: Expression | None = Field(
        None,
        description="expression over the columns of the scan table and the patient table that selects the scans, such "
        "as contrast == 'yes'; empty: all scans",
    )


class Generator(Section):
    """Residual generator of the cycle-GAN (Zhu et al. 2017, appendix 7.2)."""

    width: PositiveInt = Field(64, description="channels of the first layer; doubled by each down-sampling")
    downs: Annotated[int, Field(ge=0, le=5)] = Field(2, description="down-samplings by 2, and as many up-samplings")
    residual_blocks: Annotated[int, Field(ge=0)] = Field(9, description="residual blocks between down and up")
    kernel: Literal[3, 5, 7] = Field(
        7, description="kernel of the first and the last convolution; 3 is much faster on a CPU"
    )
    skip: bool = Field(
        False,
        description="add the input to the output, so that the network learns the change alone; learns much sooner, "
        "and departs from the published network",
    )


class Discriminator(Section):
    """PatchGAN: a grid of verdicts, each on one patch of the image (Isola et al. 2017, section 3.2.2)."""

    width: PositiveInt = Field(64, description="channels of the first layer; doubled by each layer, eight-fold at most")
    layers: Annotated[int, Field(ge=1, le=5)] = Field(
        3, description="layers of stride 2; 1, 2, 3 see 16, 34, 70 voxels along each axis"
    )


class CycleWeights(Section):
    """Weights of the two cycles."""

    forward: NonNegativeFloat = Field(10.0, description="weight of source to target and back")
    backward: NonNegativeFloat = Field(10.0, description="weight of target to source and back")


class SynthesisLosses(Section):
    """Losses of the cycle-GAN; all weights are absolute, none multiplies another."""

    adversarial: Literal["least-squares"] = Field("least-squares", description="adversarial loss (Mao et al. 2017)")
    adversarial_weight: PositiveFloat = Field(1.0, description="weight of the adversarial loss of each generator")
    cycle: CycleWeights = Field(CycleWeights(), description="weights of the cycle losses (mean absolute error)")
    identity: NonNegativeFloat = Field(
        5.0,
        description="weight of the identity loss: a generator shall leave images of its output domain alone",
    )


class Synthesis(Section):
    """A generator that translates images of the source domain into the target domain."""

    split: Name = Field(description="split whose training patients the generator may see")
    method: Literal["cyclegan"] = Field("cyclegan", description="method of unpaired translation")
    import_: ImportedWeights | None = Field(
        None,
        alias="import",
        description="use these weights instead of training; the keys of the network must describe them",
    )
    dimensions: Literal[2, 3] = Field(3, description="3 for volumes, 2 for axial slices")
    source: Domain = Field(description="images to translate")
    target: Domain = Field(description="what they shall look like")
    iterations: PositiveInt = Field(450_000, description="training iterations")
    patch: Size = Field((64, 64, 64), description="voxels of a training patch along x, y(, z)")
    batch: PositiveInt = Field(1, description="patches of each domain per iteration")
    generator: Generator = Field(Generator(), description="the generators, one for each direction")
    discriminator: Discriminator = Field(Discriminator(), description="the discriminators, one for each domain")
    losses: SynthesisLosses = Field(SynthesisLosses(), description="losses and their weights")
    learning_rate: PositiveFloat = Field(2e-4, description="learning rate of Adam, for generators and discriminators")
    betas: tuple[float, float] = Field((0.5, 0.999), description="decay rates of Adam's moments")
    pool: Annotated[int, Field(ge=0)] = Field(
        50, description="synthetic patches kept for the discriminators (Shrivastava et al. 2017); 0 keeps none"
    )
    hu_range: tuple[float, float] = Field(
        (-1000.0, 1000.0),
        description="HU mapped to -1 and 1; what lies beyond is clipped off and added again afterwards",
    )
    history_every: PositiveInt = Field(100, description="iterations per row of the training history")
    checkpoint_minutes: PositiveFloat = Field(5.0, description="minutes between two saves of the training state")
    checkpoint_iterations: PositiveInt | None = Field(
        None, description="save after so many iterations, too; empty: by time alone"
    )
    threads: PositiveInt = Field(2, description="CPU threads of training; sums, and so the weights, depend on it")
    device: Device | None = Field(None, description="auto, cpu or cuda; empty: as the study says")
    inference: SynthesisInference = Field(SynthesisInference(), description="how whole images are translated")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        factor = 2**self.generator.downs
        check_size("patch", self.patch, self.dimensions, factor)
        self.inference.check(self.patch, self.dimensions, factor)
        smallest = smallest_patch(self.discriminator.layers)
        if min(self.patch) < smallest:
            raise ValueError(
                f"patch {list(self.patch)} is too small for a discriminator of {self.discriminator.layers} layers, "
                f"which needs {smallest} voxels along each axis; write a larger patch or fewer discriminator layers"
            )
        if self.hu_range[0] >= self.hu_range[1]:
            raise ValueError(f"hu_range {list(self.hu_range)} must rise; write the lower value first")
        return self


def smallest_patch(layers: int) -> int:
    """Voxels along an axis that a PatchGAN needs, so that its last normalised layer still has two voxels."""
    # that layer is a kernel of 4 with padding 1, so 3 voxels in; each layer before it halves
    return 3 * 2**layers
