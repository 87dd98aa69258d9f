"""Section `synthesis`: unpaired image translation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from .base import Expression, ImportedWeights, Name, Section
from .inference import Size, SynthesisInference, size_problems
from .training import Engine

Range = tuple[float, float]
Device = Literal["auto", "cpu", "cuda"]


class Domain(Section):
    """The scans of one side of a translation."""

    view: Name = Field(description="view that the images are taken from")
    where: Expression | None = Field(
        None,
        description="expression over the columns of the scan table and the patient table that selects the scans, such "
        "as contrast == 'yes'; empty: all scans",
    )
    range: Range | None = Field(
        None, description="intensities mapped to -1 and 1, what lies beyond is clipped; empty: hu_range"
    )


class FurtherInput(Section):
    """A further image of the same patient that enters the generator, on the grid of the first."""

    view: Name = Field(description="view that the image is taken from; `onto` brings views to one grid")
    where: Expression | None = Field(
        None, description="expression that selects its scan, such as kernel == 'out'; empty: all scans of the view"
    )
    within: Literal["session", "patient"] = Field(
        "session",
        description="where the one scan is looked for: in the same visit or in all visits of the patient; the first "
        "input's own scan is taken if it is among those selected",
    )
    range: Range | None = Field(
        None, description="intensities mapped to -1 and 1, what lies beyond is clipped; empty: as the first input"
    )


class SourceDomain(Domain):
    """The scans to translate."""

    also: tuple[FurtherInput, ...] = Field(
        (), description="further inputs of a generator with several; scans without one of them are left out"
    )

    @property
    def views(self) -> tuple[str, ...]:
        """Views of all inputs, each once."""
        return tuple(dict.fromkeys([self.view, *(extra.view for extra in self.also)]))


class Generator(Section):
    """Residual generator of the cycle-GAN (Zhu et al. 2017, appendix 7.2)."""

    width: PositiveInt = Field(64, description="channels of the first layer; doubled by each down-sampling")
    downs: Annotated[int, Field(ge=0, le=5)] = Field(2, description="down-samplings by 2, and as many up-samplings")
    residual_blocks: Annotated[int, Field(ge=0)] = Field(
        9, description="residual blocks between down and up, those of the branches of several inputs among them"
    )
    branch_blocks: Annotated[int, Field(ge=0)] = Field(
        4, description="residual blocks of each branch, where there are several inputs"
    )
    merge: Literal["concatenate", "mean", "input"] = Field(
        "concatenate",
        description="how several inputs come together: branches concatenated and reduced by a convolution of kernel 1, "
        "branches averaged, or no branches: the inputs are channels of one network",
    )
    kernel: Literal[3, 5, 7] = Field(
        7, description="kernel of the first and the last convolution; 3 is much faster on a CPU"
    )
    padding: Literal["replicate", "reflect", "zero"] = Field(
        "replicate", description="what lies beyond the border: its voxel repeated, the image mirrored, or 0"
    )
    norm: Literal["instance", "batch", "none"] = Field(
        "instance", description="normalisation; by batch needs a batch of several patches"
    )
    upsampling: Literal["transposed", "resize"] = Field(
        "transposed",
        description="transposed convolutions, or voxels repeated and a convolution, which leaves no checkerboard",
    )
    skip: bool = Field(
        False,
        description="add the input to the output, so that the network learns the change alone; learns much sooner, "
        "and departs from the published network",
    )
    tanh: bool = Field(
        True,
        description="end with a hyperbolic tangent, as published; false: with the last convolution, so that a change "
        "(skip) is as easily learned if it is large, and a training that goes astray finds back",
    )
    slope: NonNegativeFloat = Field(
        0.0,
        description="slope of the rectifiers below zero, such as 0.1; 0 is the plain rectifier, with which networks "
        "without normalisation may lose channels for good",
    )
    first: NonNegativeFloat | None = Field(
        None,
        description="factor of the last convolution's first weights; 0 with skip: training begins with unchanged "
        "images; empty: 1, or 0.3 without normalisation",
    )


class Discriminator(Section):
    """PatchGAN: a grid of verdicts, each on one patch of the image (Isola et al. 2017, section 3.2.2)."""

    width: PositiveInt = Field(64, description="channels of the first layer; doubled by each layer, eight-fold at most")
    layers: Annotated[int, Field(ge=0, le=5)] = Field(
        3, description="layers of stride 2; 0, 1, 2, 3 see 1, 16, 34, 70 voxels along each axis"
    )
    flat: Annotated[int, Field(ge=0, le=2)] = Field(
        1, description="layers of stride 1 between those and the last; with 0, three layers see 46 voxels"
    )
    norm: Literal["instance", "batch", "spectral", "none"] = Field(
        "instance",
        description="normalisation; spectral divides weights by their largest singular value, so that discriminators "
        "never win and generators that took one tissue for another find back, with more iterations",
    )
    norm_first: bool = Field(False, description="normalise the first layer, too")
    slope: NonNegativeFloat = Field(0.2, description="slope of the rectifiers below zero; 0 is the plain rectifier")
    sigmoid: bool = Field(
        False,
        description="verdicts are probabilities: least squares are taken of the sigmoid; bce and minimax always are",
    )


class Similarity(Section):
    """Window of the structural similarity (Wang et al. 2004)."""

    window: Literal["gaussian", "uniform"] = Field("gaussian", description="weights within the window")
    size: Annotated[int, Field(ge=3)] = Field(11, description="voxels of the window along each axis, odd")
    sigma: PositiveFloat = Field(1.5, description="standard deviation of the Gaussian, voxels")


class CycleLoss(Section):
    """The two cycles: what comes back is compared with what was sent."""

    forward: NonNegativeFloat = Field(10.0, description="weight of source to target and back")
    backward: NonNegativeFloat = Field(10.0, description="weight of target to source and back")
    measure: Literal["l1", "ssim", "mean"] = Field(
        "l1", description="mean absolute error, 1 - structural similarity, or the mean of both"
    )
    similarity: Similarity = Field(Similarity(), description="window of the structural similarity")
    strength: Range = Field(
        (1.0, 1.0),
        description="the change that target to source makes is multiplied by a number drawn evenly from this range, "
        "such as [0.3, 2], before it is taken back: for what the source has more or less of, such as contrast agent, "
        "while a generator adds always the same; needs skip",
    )


class SynthesisLosses(Section):
    """Losses of the cycle-GAN; all weights are absolute, none multiplies another."""

    adversarial: Literal["least-squares", "bce", "minimax"] = Field(
        "least-squares",
        description="loss of the generators: least squares (Mao et al. 2017), binary cross-entropy, or log(1 - D), "
        "which they minimise (Goodfellow et al. 2014, equation 1)",
    )
    discriminator: Literal["least-squares", "bce"] | None = Field(
        None, description="loss of the discriminators; empty: as the generators', bce with minimax"
    )
    adversarial_weight: PositiveFloat = Field(1.0, description="weight of what each discriminator says of a generator")
    cycle: CycleLoss = Field(CycleLoss(), description="cycle losses and their weights")
    identity: NonNegativeFloat = Field(
        5.0,
        description="weight of the identity loss: a generator shall leave images of its output domain alone; 0 with "
        "several inputs, where it is not defined",
    )


class Schedule(Section):
    """How the learning rate changes."""

    kind: Literal["constant", "linear", "cosine"] = Field(
        "constant", description="constant, or falling to 0 along a line or half a cosine"
    )
    start: NonNegativeInt | None = Field(
        None, description="iteration from which it falls; empty: half of the iterations"
    )
    warm_up: NonNegativeInt = Field(0, description="first iterations, in which it rises along a line")


class Augmentation(Section):
    """Random changes of training patches, the same for all inputs of a patch; each range is drawn from evenly."""

    flip: tuple[Literal["x", "y", "z"], ...] = Field(
        (), description="axes along which a patch is mirrored, each with probability 0.5"
    )
    rotate_degrees: Range = Field((0.0, 0.0), description="rotation in the axial plane, degrees, such as [-10, 10]")
    scale: tuple[PositiveFloat, PositiveFloat] = Field(
        (1.0, 1.0), description="magnification, such as [0.9, 1.1]; one factor for all axes"
    )
    crop: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]] = Field(
        (1.0, 1.0),
        description="side of a part at a random place that is enlarged to the patch, as a share, such as [0.8, 1]; "
        "for whole slices, which have no other random place",
    )
    share: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="share of the patches that are rotated, scaled and cropped; others are taken as they are"
    )

    @model_validator(mode="after")
    def _rises(self) -> Self:
        for name in ("rotate_degrees", "scale", "crop"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} [{low:g}, {high:g}] must rise; write the lower value first")
        if len(set(self.flip)) < len(self.flip):
            raise ValueError(f"flip {list(self.flip)} names an axis twice; write it once")
        return self

    @property
    def moves(self) -> bool:
        """Whether patches are taken between voxels."""
        return self.rotate_degrees != (0.0, 0.0) or self.scale != (1.0, 1.0) or self.crop != (1.0, 1.0)


class Synthesis(Section):
    """A generator that translates images of the source domain into the target domain."""

    split: Name = Field(description="split whose training patients the generator may see")
    method: Literal["cyclegan"] = Field("cyclegan", description="method of unpaired translation")
    import_: ImportedWeights | None = Field(
        None,
        alias="import",
        description="use these weights instead of training; the keys of the network must describe them",
    )
    start_from: ImportedWeights | None = Field(
        None,
        description="weights of both generators that training starts from (fine-tuning); the discriminators start anew",
    )
    dimensions: Literal[2, 3] = Field(3, description="3 for volumes, 2 for axial slices")
    source: SourceDomain = Field(description="images to translate")
    target: Domain = Field(description="what they shall look like")
    mixed_spacing: bool = Field(
        False,
        description="train on images of different voxel spacing, such as pictures that were resized to one size",
    )
    iterations: PositiveInt = Field(450_000, description="training iterations")
    patch: Size = Field(
        (64, 64, 64),
        description="voxels of a training patch along x, y(, z); whole slices if their view has this size",
    )
    batch: PositiveInt = Field(1, description="patches of each domain per iteration")
    augment: Augmentation = Field(Augmentation(), description="random changes of training patches")
    generator: Generator = Field(Generator(), description="the generators, one for each direction")
    discriminator: Discriminator = Field(
        Discriminator(), description="the discriminators, one for each input of the source and one for the target"
    )
    losses: SynthesisLosses = Field(SynthesisLosses(), description="losses and their weights")
    learning_rate: PositiveFloat = Field(2e-4, description="learning rate of Adam, for generators and discriminators")
    schedule: Schedule = Field(Schedule(), description="how the learning rate changes")
    gradient_limit: PositiveFloat | None = Field(
        None,
        description="gradients of the generators together are scaled down to this Euclidean norm where theirs is "
        "larger, such as 5; empty: none are",
    )
    betas: tuple[float, float] = Field((0.5, 0.999), description="decay rates of Adam's moments")
    average: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        description="keep running means of the generators' weights, of which each iteration leaves this share, such as "
        "0.999, and translate with them: steadier than the last weights; empty: the last weights",
    )
    pool: Annotated[int, Field(ge=0)] = Field(
        50, description="synthetic patches kept for the discriminators (Shrivastava et al. 2017); 0 keeps none"
    )
    hu_range: Range = Field(
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
    engine: Engine = Field(Engine(), description="how training is computed: precision, memory, devices")
    inference: SynthesisInference = Field(SynthesisInference(), description="how whole images are translated")

    @property
    def inputs(self) -> int:
        """Images that enter the generator together."""
        return 1 + len(self.source.also)

    @property
    def source_ranges(self) -> tuple[Range, ...]:
        """Intensities of each input that are mapped to -1 and 1."""
        first = self.source.range or self.hu_range
        return (first, *(extra.range or first for extra in self.source.also))

    @property
    def target_range(self) -> Range:
        """Intensities of the target that are mapped to -1 and 1."""
        return self.target.range or self.hu_range

    @property
    def views(self) -> tuple[str, ...]:
        """Views of both domains, each once."""
        return tuple(dict.fromkeys([*self.source.views, self.target.view]))

    @model_validator(mode="after")
    def _fits(self) -> Self:
        problems = [
            *self._sizes(),
            *self._ranges(),
            *self._several_inputs(),
            *self._network(),
            *self._loss(),
            *self._course(),
        ]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _sizes(self) -> Iterator[str]:
        factor = 2**self.generator.downs
        found = size_problems("patch", self.patch, self.dimensions, factor)
        yield from found
        if not found:
            yield from self.inference.problems(self.patch, self.dimensions, factor)
        needed = smallest_patch(self.discriminator.layers, self.discriminator.flat)
        if min(self.patch) < needed:
            yield (
                f"patch {list(self.patch)} is too small for a discriminator of {self.discriminator.layers} layers, "
                f"which needs {needed} voxels along each axis; write a larger patch or fewer discriminator layers"
            )

    def _ranges(self) -> Iterator[str]:
        ranges = {"hu_range": self.hu_range, "source: range": self.source.range, "target: range": self.target.range}
        ranges |= {f"source: also: {n}: range": extra.range for n, extra in enumerate(self.source.also, start=1)}
        for name, limits in ranges.items():
            if limits is not None and limits[0] >= limits[1]:
                yield f"{name} {list(limits)} must rise; write the lower value first"

    def _several_inputs(self) -> Iterator[str]:
        if self.inputs == 1:
            return
        drawn = [(self.source.view, self.source.where), *((extra.view, extra.where) for extra in self.source.also)]
        for view, where in dict.fromkeys(pair for pair in drawn if drawn.count(pair) > 1):
            yield (
                f"source: also: view {view!r} with where {where!r} is an input twice; write another view or `where`, "
                f"such as where: kernel == 'out'"
            )
        if self.losses.identity > 0:
            yield (
                f"losses: identity is not defined for {self.inputs} inputs and one output; write "
                f"losses: {{identity: 0}}"
            )
        if self.generator.skip:
            yield f"generator: skip cannot add {self.inputs} inputs to one output; write skip: false"
        blocks, own = self.generator.residual_blocks, self.generator.branch_blocks
        if self.generator.merge != "input" and own > blocks:
            yield (
                f"generator: branch_blocks {own} is more than residual_blocks {blocks}, which counts them; write at "
                f"most branch_blocks: {blocks}"
            )

    def _network(self) -> Iterator[str]:
        # each residual block, and the first convolution, mirrors what it sees: more voxels than the border are needed
        border, deepest = self.generator.kernel // 2, min(self.patch) // 2**self.generator.downs
        blocks = self.generator.residual_blocks > 0
        if self.generator.padding == "reflect" and (min(self.patch) <= border or (blocks and deepest < 2)):
            yield f"generator: padding: reflect needs a larger patch than {list(self.patch)}, or fewer downs"
        if self.generator.norm == "instance" and all(s == 2**self.generator.downs for s in self.patch):
            yield (
                f"patch {list(self.patch)} leaves one voxel after {self.generator.downs} down-samplings, which "
                f"instance normalisation sets to 0; write a larger patch or fewer downs"
            )
        for name in ("generator", "discriminator"):
            if getattr(self, name).norm == "batch" and self.batch == 1:
                yield f"{name}: norm: batch needs several patches at once; write batch: 4, or norm: instance"

    def _loss(self) -> Iterator[str]:
        cycle = self.losses.cycle
        if cycle.measure != "l1":
            if cycle.similarity.size > min(self.patch):
                most = (min(self.patch) - 1) // 2 * 2 + 1
                yield (
                    f"losses: cycle: similarity: size {cycle.similarity.size} is more than the patch "
                    f"{list(self.patch)} has; write at most size: {most}, or a larger patch"
                )
            if cycle.similarity.size % 2 == 0:
                yield (
                    f"losses: cycle: similarity: size {cycle.similarity.size} has no middle voxel; write "
                    f"size: {cycle.similarity.size + 1}"
                )
        low, high = cycle.strength
        if not 0 <= low <= high:
            yield f"losses: cycle: strength [{low:g}, {high:g}] must rise from 0 or more; write such as [0.3, 2]"
        if cycle.strength != (1.0, 1.0) and not (self.generator.skip and cycle.backward > 0):
            yield (
                "losses: cycle: strength multiplies the change of the backward cycle; write generator: {skip: true} "
                "and a weight for backward, or leave strength out"
            )
        if cycle.forward == cycle.backward == 0:
            yield "losses: cycle: both weights are 0, so that nothing ties the output to its input; write forward: 10"

    def _course(self) -> Iterator[str]:
        start = self.schedule.start
        if start is not None and self.schedule.kind == "constant":
            yield "schedule: start is of no use with kind: constant; write kind: linear, or leave start out"
        if start is not None and start >= self.iterations:
            yield (
                f"schedule: start {start} is not before the last of {self.iterations} iterations; write a lower one, "
                f"such as {self.iterations // 2}"
            )
        if self.schedule.warm_up >= self.iterations:
            yield (
                f"schedule: warm_up {self.schedule.warm_up} leaves none of {self.iterations} iterations; write fewer, "
                f"such as {self.iterations // 20}"
            )
        if self.batch % self.engine.devices:
            yield (
                f"engine: devices: {self.engine.devices} devices cannot share a batch of {self.batch} evenly; write a "
                f"batch of {self.engine.devices * -(-self.batch // self.engine.devices)}, or devices: 1"
            )
        if self.engine.devices > 1 and "batch" in (self.generator.norm, self.discriminator.norm):
            yield "norm: batch would see a part of each batch on several devices; write norm: instance, or devices: 1"
        if self.dimensions == 2 and "z" in self.augment.flip:
            yield "augment: flip: slices have no z axis; write x or y"
        if self.import_ is not None and self.start_from is not None:
            yield ("import takes weights as they are, start_from trains them further; write one of the two")


def smallest_patch(layers: int, flat: int = 1) -> int:
    """Voxels along an axis that a PatchGAN needs, so that its last normalised layer still has two voxels."""
    # layers of stride 1, kernel 4 and padding 1 take one voxel each; those of stride 2 halve
    return (2 + flat) * 2**layers if layers else 1
