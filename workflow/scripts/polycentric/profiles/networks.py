"""Fixed networks whose features describe slices, in evaluation mode and without their classifiers. torch alone.

Parameter names are those of the published weights, so that their files load without a change.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional


class _Same(nn.Conv2d):
    """Convolution with TensorFlow's `same` padding, which is larger behind than before."""

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        rows, columns = (max((math.ceil(n / stride) - 1) * stride + kernel - n, 0) for n in x.shape[-2:])
        x = functional.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
        return functional.conv2d(x, self.weight, self.bias, self.stride, 0, 1, self.groups)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class _Inverted(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        if expansion > 1:
            self._expand_conv, self._bn0 = _Same(inputs, inner, 1, bias=False), _norm(inner)
        self._depthwise_conv = _Same(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = _norm(inner)
        self._project_conv, self._bn2 = _Same(inner, outputs, 1, bias=False), _norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu6(self._bn0(self._expand_conv(x))) if hasattr(self, "_expand_conv") else x
        y = functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 (Tan and Le 2019 without squeeze-and-excitation, ReLU6): (n, 3, 224, 224) to (n, 1280).

    Inputs are grey values 0 to 255, minus 127 and divided by 128; the features are the means over the last map.
    """

    SIDE, SHIFT, SCALE, FEATURES = 224, 127.0, 128.0, 1280
    # blocks, kernel, stride of the first, expansion, output channels
    STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320))  # fmt: skip  # noqa: E501

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = _Same(3, 32, 3, 2, bias=False), _norm(32)
        blocks, channels = [], 32
        for count, kernel, stride, expansion, outputs in self.STAGES:
            for number in range(count):
                blocks.append(_Inverted(channels, outputs, kernel, 1 if number else stride, expansion))
                channels = outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = _Same(320, 1280, 1, bias=False), _norm(1280)
        self._fc = nn.Linear(1280, 1000)

    def features(self, x: Tensor) -> Tensor:
        x = functional.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return functional.relu6(self._bn1(self._conv_head(x))).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self._fc(self.features(x))


class VGG16(nn.Module):
    """VGG16 (Simonyan and Zisserman 2015, configuration D), torchvision's names: (n, 3, 224, 224) to (n, 512).

    The features are the largest values of the last map by channel (Kalantar et al. 2023). Inputs are grey values 0 to
    255, scaled to 0 to 1 and standardised by torchvision's means and deviations, as its weights were trained.
    """

    SIDE, FEATURES = 224, 512
    SHIFT = (123.675, 116.28, 103.53)
    SCALE = (58.395, 57.12, 57.375)

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for count, outputs in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
            for _ in range(count):
                layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.ReLU()]
                channels = outputs
            layers.append(nn.MaxPool2d(2))
        self._modules["features"] = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self._modules["features"](x).amax((2, 3))


class _Conv(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int | tuple[int, int], **options: object) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, bias=False, **options)  # type: ignore[arg-type]
        self.bn = _norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x)))


class _Mixed(nn.Module):
    """A block of Inception v3: branches of convolutions by name, and a pooled branch; `pool` is average or maximum.

    `branches` maps the name of each branch to its convolutions; a list within a branch forks, its outputs are joined.
    """

    def __init__(self, branches: list[list], pooled: list | None, pool: str, tensorflow: bool) -> None:
        super().__init__()
        self.plan = [[self._add(part) for part in branch] for branch in branches]
        self.pooled = None if pooled is None else self._add(pooled)
        self.pool, self.tensorflow = pool, tensorflow

    def _add(self, part: list | tuple) -> list | str:
        if isinstance(part, list) and isinstance(part[0], tuple | list):
            return [self._add(p) for p in part]
        name, *arguments = part
        options = arguments.pop() if isinstance(arguments[-1], dict) else {}
        self.add_module(name, _Conv(*arguments, **options))
        return name

    def forward(self, x: Tensor) -> Tensor:
        outputs: list[Tensor] = []
        for branch in self.plan:
            y = x
            for step in branch:
                if isinstance(step, list):
                    outputs += [self._modules[name](y) for name in step]
                    break
                y = self._modules[step](y)
            else:
                outputs.append(y)
        if self.pool == "strided":
            outputs.append(functional.max_pool2d(x, 3, 2))
        elif self.pool == "maximum":
            outputs.append(self._modules[self.pooled](functional.max_pool2d(x, 3, 1, 1)))
        else:
            average = functional.avg_pool2d(x, 3, 1, 1, count_include_pad=not self.tensorflow)
            outputs.append(self._modules[self.pooled](average))
        return torch.cat(outputs, 1)


def _mixed_a(inputs: int, pooled: int, tensorflow: bool) -> _Mixed:
    five, three = {"padding": 2}, {"padding": 1}
    return _Mixed(
        [
            [("branch1x1", inputs, 64, 1)],
            [("branch5x5_1", inputs, 48, 1), ("branch5x5_2", 48, 64, 5, five)],
            [("branch3x3dbl_1", inputs, 64, 1), ("branch3x3dbl_2", 64, 96, 3, three), ("branch3x3dbl_3", 96, 96, 3, three)],  # noqa: E501
        ],
        ["branch_pool", inputs, pooled, 1], "average", tensorflow,
    )  # fmt: skip


def _mixed_b(inputs: int) -> _Mixed:
    two, one = {"stride": 2}, {"padding": 1}
    return _Mixed(
        [
            [("branch3x3", inputs, 384, 3, two)],
            [("branch3x3dbl_1", inputs, 64, 1), ("branch3x3dbl_2", 64, 96, 3, one), ("branch3x3dbl_3", 96, 96, 3, two)],
        ],
        None, "strided", False,
    )  # fmt: skip


def _mixed_c(inner: int, tensorflow: bool) -> _Mixed:
    across, down = {"padding": (0, 3)}, {"padding": (3, 0)}
    return _Mixed(
        [
            [("branch1x1", 768, 192, 1)],
            [("branch7x7_1", 768, inner, 1), ("branch7x7_2", inner, inner, (1, 7), across), ("branch7x7_3", inner, 192, (7, 1), down)],  # noqa: E501
            [
                ("branch7x7dbl_1", 768, inner, 1), ("branch7x7dbl_2", inner, inner, (7, 1), down),
                ("branch7x7dbl_3", inner, inner, (1, 7), across), ("branch7x7dbl_4", inner, inner, (7, 1), down),
                ("branch7x7dbl_5", inner, 192, (1, 7), across),
            ],
        ],
        ["branch_pool", 768, 192, 1], "average", tensorflow,
    )  # fmt: skip


def _mixed_d() -> _Mixed:
    return _Mixed(
        [
            [("branch3x3_1", 768, 192, 1), ("branch3x3_2", 192, 320, 3, {"stride": 2})],
            [
                ("branch7x7x3_1", 768, 192, 1), ("branch7x7x3_2", 192, 192, (1, 7), {"padding": (0, 3)}),
                ("branch7x7x3_3", 192, 192, (7, 1), {"padding": (3, 0)}), ("branch7x7x3_4", 192, 192, 3, {"stride": 2}),
            ],
        ],
        None, "strided", False,
    )  # fmt: skip


def _mixed_e(inputs: int, pool: str, tensorflow: bool) -> _Mixed:
    across, down = {"padding": (0, 1)}, {"padding": (1, 0)}
    return _Mixed(
        [
            [("branch1x1", inputs, 320, 1)],
            [("branch3x3_1", inputs, 384, 1), [("branch3x3_2a", 384, 384, (1, 3), across), ("branch3x3_2b", 384, 384, (3, 1), down)]],  # noqa: E501
            [
                ("branch3x3dbl_1", inputs, 448, 1), ("branch3x3dbl_2", 448, 384, 3, {"padding": 1}),
                [("branch3x3dbl_3a", 384, 384, (1, 3), across), ("branch3x3dbl_3b", 384, 384, (3, 1), down)],
            ],
        ],
        ["branch_pool", inputs, 192, 1], pool, tensorflow,
    )  # fmt: skip


class InceptionV3(nn.Module):
    """Inception v3 (Szegedy et al. 2016): (n, 3, 299, 299) to the 2048 means of the last map.

    With `tensorflow` the network behind the Frechet inception distance (1,008 classes; Heusel et al. 2017): its
    average pooling leaves the padding out, and the last block pools by maximum. Without, torchvision's network (1,000
    classes). Inputs are grey values 0 to 255, scaled to -1 to 1.
    """

    SIDE, SHIFT, SCALE, FEATURES = 299, 127.5, 127.5, 2048

    def __init__(self, tensorflow: bool) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Conv(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = _Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = _Conv(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = _Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = _Conv(80, 192, 3)
        for name, inputs, pooled in (("Mixed_5b", 192, 32), ("Mixed_5c", 256, 64), ("Mixed_5d", 288, 64)):
            self.add_module(name, _mixed_a(inputs, pooled, tensorflow))
        self.Mixed_6a = _mixed_b(288)
        for name, inner in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
            self.add_module(name, _mixed_c(inner, tensorflow))
        self.Mixed_7a = _mixed_d()
        self.Mixed_7b = _mixed_e(1280, "average", tensorflow)
        self.Mixed_7c = _mixed_e(2048, "maximum" if tensorflow else "average", tensorflow)
        self.fc = nn.Linear(2048, 1008 if tensorflow else 1000)

    def forward(self, x: Tensor) -> Tensor:
        for name, module in self.named_children():
            if name == "fc":
                break
            x = module(x)
            if name in ("Conv2d_2b_3x3", "Conv2d_4a_3x3"):
                x = functional.max_pool2d(x, 3, 2)
        return x.mean((2, 3))


def folded(network: EfficientNetLite0) -> Callable[[Tensor], Tensor]:
    """The features of an EfficientNet-Lite0 with each normalisation folded into its convolution: equal, and faster."""

    def fold(holder: nn.Module, convolution: str, norm: str) -> None:
        conv, bn = holder._modules[convolution], holder._modules[norm]
        factor = bn.weight / torch.sqrt(bn.running_var + bn.eps)
        conv.weight = nn.Parameter(conv.weight * factor[:, None, None, None], requires_grad=False)
        conv.bias = nn.Parameter(bn.bias - bn.running_mean * factor, requires_grad=False)
        holder._modules[norm] = nn.Identity()

    with torch.no_grad():
        fold(network, "_conv_stem", "_bn0")
        fold(network, "_conv_head", "_bn1")
        for block in network._blocks:
            if hasattr(block, "_expand_conv"):
                fold(block, "_expand_conv", "_bn0")
            fold(block, "_depthwise_conv", "_bn1")
            fold(block, "_project_conv", "_bn2")
    return network.to(memory_format=torch.channels_last).features
