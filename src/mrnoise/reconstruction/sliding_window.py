"""Sliding window: every frame from the samples of its neighbours too."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.errors import InputError
from mrnoise.reconstruction.bound import Bound
from mrnoise.reconstruction.cg_sense import CgSense
from mrnoise.reconstruction.protocol import Reconstruction
from mrnoise.reconstruction.series import Apart, OfSeries, encoded_together, parts_along, series_axis
from mrnoise.sampling.grid import Grid

# Part of the samples of all frames that a window has by default.
COMPLETE = 0.9


@dataclass(frozen=True)
class SlidingWindow(OfSeries):
    """Sliding window, or view sharing: each frame is reconstructed from the samples of ``width`` frames around it.

    A sample that was acquired in several of them is their mean, weighted by their averages (Riederer et al. 1988,
    doi:10.1002/mrm.1910080101). At the ends of the series the window stays inside, off centre. Frames share samples,
    hence noise: that of their mean does not fall as with independent frames. Linear where the inner one is.

    Parameters
    ----------
    width
        Number of frames that share their samples. ``None``: as few as have, on average, nine tenths of the samples that
        all frames have together.
    inner
        Reconstructs each frame.
    axis
        Of the series. ``None``: the only leading axis beside slices.

    Raises
    ------
    InputError
        If the width is not possible; on `bind`, if the scan has no such axis, or fewer frames.

    Examples
    --------
    >>> import torch
    >>> from mrnoise import noise_map
    >>> from mrnoise.sampling import equispaced
    >>> from mrnoise.simulation import simulate
    >>> masks = torch.stack([equispaced((16, 12), 4, offset=k) for k in range(6)])
    >>> scan = simulate((16, 12), 4, mask=masks, n_frames=6)
    >>> for width in (1, 4):  # frames of every fourth line; four of them have all lines
    ...     nm = noise_map(SlidingWindow(width, CgSense(1e-3)), scan, method="exact")
    ...     print(width, round(float(nm.std.mean()), 2))
    1 0.1
    4 0.01
    """

    width: int | None = None
    inner: Reconstruction = field(default_factory=CgSense)
    axis: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "unit_gain", self.inner.unit_gain)
        if self.width is not None and self.width < 1:
            raise InputError(
                "invalid width of the window",
                expected="at least 1 frame",
                received=str(self.width),
                remedy="Take as many frames as have all of k-space together, the acceleration.",
            )

    def bind(self, acquisition: Acquisition) -> BoundSlidingWindow:
        """Return kspace (frame, coil, k1, k0) → images (frame, y, x)."""
        axis = series_axis(acquisition, self.axis)
        acquisition = encoded_together(acquisition, acquisition.axes.index(axis))
        frames = parts_along(acquisition, axis)
        width = _usual_width(frames) if self.width is None else self.width
        if width > len(frames):
            raise InputError(
                "the window is wider than the series",
                expected=f"at most {len(frames)} frames",
                received=str(width),
                remedy="Take as many frames as have all of k-space together, the acceleration.",
            )
        starts = _starts(len(frames), width)
        weights = [_weight(frame) for frame in frames]
        shares, images = [], []
        for frame, start in zip(frames, starts, strict=True):
            window = slice(start, start + width)
            total = torch.stack(weights[window]).sum(0)
            share = torch.stack([weight / total.clamp_min(1) for weight in weights[window]])
            shares.append(share.unsqueeze(frame.coil_axis))
            kspace = _shared(shares[-1], torch.stack([part.kspace for part in frames[window]]))
            images.append(self.inner.bind(_windowed(frame, frames[window], kspace, total)))
        places = acquisition.axes.index(axis), self.image_axes(acquisition).index(axis)
        return BoundSlidingWindow(self, acquisition, Apart(tuple(images), *places), tuple(starts), tuple(shares))


@dataclass(frozen=True, eq=False, repr=False)
class BoundSlidingWindow(Bound):
    """`SlidingWindow` of one series.

    Parameters
    ----------
    images
        From the shared samples of each frame to its image.
    starts
        First frame of each window.
    shares
        Weight of each sample in its mean, (width, ..., 1, *samples) for each frame.
    """

    method: SlidingWindow
    images: Apart
    starts: tuple[int, ...]
    shares: tuple[Tensor, ...]

    @property
    def complex_linear(self) -> bool:
        """Where the inner one is."""
        return self.images.complex_linear

    def __call__(self, kspace: Tensor) -> Tensor:
        """(frame, coil, k1, k0) → (frame, y, x)."""
        frames = kspace.movedim(self.images.place, 0)
        windows = zip(self.shares, self.starts, strict=True)
        shared = [_shared(share, frames[start : start + len(share)]) for share, start in windows]
        return self.images(torch.stack(shared, self.images.place))


def _starts(n_frames: int, width: int) -> list[int]:
    """First frame of the window of each."""
    return [min(max(k - width // 2, 0), n_frames - width) for k in range(n_frames)]


def _usual_width(frames: list[Acquisition]) -> int:
    sampled = torch.stack([frame.sampling.weight > 0 for frame in frames])
    everything = int(sampled.any(0).sum())
    for width in range(1, len(frames)):
        starts = _starts(len(frames), width)
        shared = sum(int(sampled[start : start + width].any(0).sum()) for start in starts)
        if shared >= COMPLETE * everything * len(frames):
            return width
    return len(frames)


def _shared(share: Tensor, frames: Tensor) -> Tensor:
    return (share * frames).sum(0)


def _weight(frame: Acquisition) -> Tensor:
    """How often each sample of one coil was measured."""
    weight = frame.sampling.weight.to(frame.kspace.real.dtype)
    return weight if frame.averages is None else weight * frame.averages.to(weight)


def _windowed(frame: Acquisition, window: list[Acquisition], kspace: Tensor, total: Tensor) -> Acquisition:
    """A frame with the samples of its window."""
    sampling = frame.sampling
    if isinstance(sampling, Grid):
        mask = torch.stack([one.mask for one in window]).any(0)
        sampling = Grid(mask, sampling.spatial_dims, sampling.extent)
    return frame.replace(kspace=kspace, sampling=sampling, averages=total)
