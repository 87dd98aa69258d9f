"""Section `profiles`: how the axial slices of images are described for the evaluation of synthetic images."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, StringConstraints, model_validator

from .base import Section


class FeatureNetwork(Section):
    """The fixed network whose features describe slices; never trained here."""

    kind: Literal["efficientnet-lite0", "vgg16", "inception-v3"] = Field(
        "efficientnet-lite0",
        description="network; the weights of efficientnet-lite0 (ImageNet) come with a package, those of the others "
        "from you",
    )
    weights: str | None = Field(
        None,
        description="file with the weights, as state dict (.pth) or .safetensors; empty: the packaged ones. Only "
        "weights of the Inception network of 2015 (1,008 classes) make a Frechet inception distance",
    )
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        None, description="SHA-256 of that file; another file is refused"
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.weights is None) != (self.sha256 is None):
            raise ValueError("weights and sha256 belong together; write both or neither")
        if self.weights is None and self.kind != "efficientnet-lite0":
            raise ValueError(
                f"no package brings weights of {self.kind}; write weights: and sha256: of a file of yours, or "
                "kind: efficientnet-lite0"
            )
        return self


class ProfileSettings(Section):
    """A way to describe the axial slices of an image: layer, histogram, spectrum, features of a network."""

    landmarks: Literal["lungs", "diaphragm-to-pelvis", "body"] = Field(
        "lungs",
        description="what bounds the layers, found in every image: lungs (base to apex), diaphragm-to-pelvis (dome of "
        "the diaphragm to iliac crest) or body (the ends of the scan); images without them are left out and counted",
    )
    layers: Annotated[int, Field(ge=1, le=50)] = Field(10, description="axial layers between the landmarks")
    slices: PositiveInt = Field(60, description="slices of a scan at most, evenly spaced between the landmarks")
    hu_range: tuple[float, float] = Field(
        (-1000.0, 1000.0), description="HU mapped to grey values 0 and 255, and range of the histograms and spectra"
    )
    bins: Annotated[int, Field(ge=2, le=4096)] = Field(256, description="bins of the fine histogram over that range")
    tissue_edges_hu: tuple[float, float] = Field(
        (20.0, 200.0), description="HU between air or fluid and soft tissue, and between soft tissue and bone"
    )
    highest_frequency: PositiveFloat = Field(
        0.5,
        description="highest spatial frequency of the spectra, cycles per mm; beyond the grid's limit is left empty",
    )
    network: FeatureNetwork | None = Field(
        FeatureNetwork(), description="fixed network for the features; null: no features, and no distances of them"
    )

    @model_validator(mode="after")
    def _rises(self) -> Self:
        for name in ("hu_range", "tissue_edges_hu"):
            low, high = getattr(self, name)
            if low >= high:
                raise ValueError(f"{name} [{low:g}, {high:g}] must rise; write the lower value first")
        return self
