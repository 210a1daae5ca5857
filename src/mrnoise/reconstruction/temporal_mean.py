"""The mean of a series over time."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.reconstruction.bound import Bound
from mrnoise.reconstruction.cg_sense import CgSense
from mrnoise.reconstruction.protocol import KspaceToImage, Reconstruction
from mrnoise.reconstruction.series import OneOfSeries


@dataclass(frozen=True)
class TemporalMean(OneOfSeries):
    """Mean over a series of the magnitudes that another reconstruction gives, x̄ = 1/T Σ_t |x_t|; real.

    Its σ counts how the noise of frames goes together: 1/√T of that of a frame where frames are independent, more where
    they share samples, a subspace or a regularisation.

    Parameters
    ----------
    inner
        Gives the images.
    axis
        Of the series. ``None``: the only leading axis beside slices.

    Raises
    ------
    InputError
        On `bind`, if the scan has no such axis.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.reconstruction import Sense
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((16, 12), 4, n_frames=8, snr=30.0)
    >>> frames, mean = (noise_map(method, scan, method="exact") for method in (Sense(), TemporalMean(Sense())))
    >>> tuple(mean.std.shape), round(float(mean.std.mean() / frames.magnitude_std.mean()), 3)  # 1/√8
    ((16, 12), 0.354)
    """

    inner: Reconstruction = field(default_factory=CgSense)
    axis: str | None = None

    unit_gain = False  # of one noise component

    def bind(self, acquisition: Acquisition) -> BoundTemporalMean:
        """Return kspace (frame, coil, k1, k0) → real image (y, x)."""
        return BoundTemporalMean(self, acquisition, *self.series(acquisition))


@dataclass(frozen=True, eq=False, repr=False)
class BoundTemporalMean(Bound):
    """`TemporalMean` of one series.

    Parameters
    ----------
    series
        k-space → images.
    place
        Of their axis.
    """

    series: KspaceToImage
    place: int

    def __call__(self, kspace: Tensor) -> Tensor:
        """1/T Σ_t |x_t|, (frame, coil, k1, k0) → (y, x)."""
        return self.series(kspace).abs().mean(self.place)
