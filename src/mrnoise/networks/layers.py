"""Building blocks: complex images as channels, residual blocks, and the U-Net inside the networks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional


def residual(network: nn.Module, x: Tensor) -> Tensor:
    """Apply a network of 2 channels, real and imaginary part, to complex images (..., y, x)."""
    channels = torch.view_as_real(x.reshape(-1, *x.shape[-2:])).movedim(-1, 1)
    out = network(channels).to(x.real.dtype)  # mixed precision ends here
    return torch.complex(out[:, 0], out[:, 1]).reshape(x.shape)


class ResNet(nn.Module):
    """Two pre-activation residual blocks of two 3×3 convolutions, then one back to the channels of the image.

    The first block has a 1×1 shortcut, and no activation before its first convolution: the sign of real and
    imaginary parts must not be lost (He et al. 2016, doi:10.48550/arXiv.1603.05027).

    Parameters
    ----------
    features
        Channels inside.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.shortcut = nn.Conv2d(2, features, 1)
        self.block1 = nn.Sequential(_conv(2, features), nn.ReLU(), _conv(features, features))
        self.block2 = nn.Sequential(nn.ReLU(), _conv(features, features), nn.ReLU(), _conv(features, features))
        self.last = _silent(_conv(features, 2))

    def forward(self, x: Tensor) -> Tensor:
        """Real (n, 2, y, x) → (n, 2, y, x)."""
        h = self.shortcut(x) + self.block1(x)
        return self.last(h + self.block2(h))


class ConvNet(nn.Module):
    """U-Net (Ronneberger et al. 2015, doi:10.48550/arXiv.1505.04597) with instance norm and leaky ReLU.

    Images of any size: the edges are padded with zeros to a multiple of 2^poolings.

    Parameters
    ----------
    features
        Channels of the first level, doubled at each of the ``poolings`` that follow.
    """

    def __init__(self, features: int, poolings: int) -> None:
        super().__init__()
        widths = [features * 2**level for level in range(poolings + 1)]
        self.down = nn.ModuleList(_Level(n, m) for n, m in zip([2, *widths], widths, strict=False))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * n, n, 2, 2, bias=False) for n in reversed(widths[:-1]))
        self.merge = nn.ModuleList(_Level(2 * n, n) for n in reversed(widths[:-1]))
        self.last = _silent(nn.Conv2d(features, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Real (n, 2, y, x) → (n, 2, y, x)."""
        ny, nx = x.shape[-2:]
        multiple = 2 ** len(self.up)
        x = functional.pad(x, (0, -nx % multiple, 0, -ny % multiple))
        skipped = []
        for level, down in enumerate(self.down):
            x = down(halved(x) if level else x)
            skipped.append(x)
        skipped.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([up(x), skipped.pop()], dim=-3))
        return self.last(x)[..., :ny, :nx]


class _Level(nn.Module):
    """Twice: 3×3 convolution, instance norm, leaky ReLU."""

    def __init__(self, n: int, m: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(n, m, 3, padding=1, bias=False)
        self.second = nn.Conv2d(m, m, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return _activated(self.second(_activated(self.first(x))))


def _activated(x: Tensor) -> Tensor:
    return functional.leaky_relu(instance_norm(x), 0.2, inplace=not _differentiated(x))


def halved(x: Tensor) -> Tensor:
    """Mean of 2×2 pixels, as `torch.nn.functional.avg_pool2d`, in a quarter of its time on a CPU."""
    rows = x[..., ::2, :] + x[..., 1::2, :]
    return 0.25 * (rows[..., ::2] + rows[..., 1::2])


def instance_norm(x: Tensor) -> Tensor:
    """(x - mean) / std of each channel of each image, √(variance + 10⁻⁵) as in `torch.nn.InstanceNorm2d`."""
    # Replicas do without the price of a function that has a derivative.
    return _InstanceNorm.apply(x)[0] if _differentiated(x) else _normalized(x)[0]


def _differentiated(x: Tensor) -> bool:
    return torch.is_grad_enabled() or forward_ad.unpack_dual(x).tangent is not None


def _normalized(x: Tensor) -> tuple[Tensor, Tensor]:
    """The same, and 1/std."""
    # Of all ways to a mean and a variance the fastest on a CPU: normalised over all axes of a channel.
    full = x.float() if x.dtype == torch.bfloat16 else x
    y, _, r = torch.native_layer_norm(full, x.shape[-2:], None, None, 1e-5)
    return y.to(x.dtype), r


class _InstanceNorm(torch.autograd.Function):
    """With a derivative of its own: that of torch takes three times as many passes over memory.

    dy = r (dx - mean dx - y mean(y dx)) with r = 1/std; the same matrix backwards.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        return _normalized(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*output)
        ctx.save_for_forward(*output)

    @staticmethod
    def jvp(ctx: Any, dx: Tensor) -> tuple[Tensor, None]:
        y, r = ctx.saved_tensors
        return _along(dx, y, r), None

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        y, r = ctx.saved_tensors
        return _along(gradients[0], y, r)


def _along(dx: Tensor, y: Tensor, r: Tensor) -> Tensor:
    mean = dx.mean((-2, -1), keepdim=True)
    slope = (y * dx).mean((-2, -1), keepdim=True)
    return torch.addcmul(dx - mean, y, slope, value=-1).mul_(r).to(dx.dtype)


def _conv(n: int, m: int) -> nn.Conv2d:
    return nn.Conv2d(n, m, 3, padding=1)


def _silent(convolution: nn.Conv2d) -> nn.Conv2d:
    """Training starts where the network changes nothing."""
    nn.init.zeros_(convolution.weight)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    return convolution
