"""Reconstructions of SigPy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.errors import InputError
from mrnoise.reconstruction.adapters.black_box import BoundOutsideTorch, OutsideTorch
from mrnoise.reconstruction.adapters.common import check_single
from mrnoise.sampling.trajectory import Trajectory


@dataclass(frozen=True, repr=False)
class SigpyApp(OutsideTorch):
    """An app of ``sigpy.mri.app`` that reconstructs from k-space and coil maps: SENSE, ℓ1-wavelets, total variation.

    Called as app(kspace, maps, show_pbar=False).run(), of a trajectory with coord=coordinates besides. Whether it is
    linear is found out as for a `BlackBox`: SENSE is once its conjugate gradients have converged. Apps with a proximal
    term draw the start of a power iteration, which sets their step, from NumPy's global state; here it is seeded, and
    left as it was.

    Parameters
    ----------
    app
        A class of ``sigpy.mri.app``, with its options as in ``functools.partial(SenseRecon, lamda=0.01)``.
    whitened, differentiate_coil_maps
        As for `OutsideTorch`.

    Raises
    ------
    InputError
        On `bind`, if the scan is more than one image; of an image, if the app gives something else.

    Examples
    --------
    >>> from functools import partial
    >>> from mrnoise.simulation import simulate
    >>> from sigpy.mri.app import SenseRecon
    >>> scan = simulate((16, 12), 4)
    >>> SigpyApp(partial(SenseRecon, lamda=0.01)).bind(scan)(scan.kspace).shape
    torch.Size([16, 12])
    """

    app: Callable[..., Any]

    @property
    def called(self) -> str:
        """Name and options of the app."""
        return called(self.app)

    def bind(self, acquisition: Acquisition) -> BoundSigpyApp:
        """Return kspace (coil, k1, k0) or (coil, *samples) → image (y, x)."""
        check_single(acquisition)
        return BoundSigpyApp(self, acquisition, self.fixed_maps(acquisition))


@dataclass(frozen=True, eq=False, repr=False)
class BoundSigpyApp(BoundOutsideTorch):
    """`SigpyApp` of one scan."""

    method: SigpyApp

    def image(self, kspace: np.ndarray, maps: np.ndarray | None) -> np.ndarray:
        """What the app returns."""
        sampling, options = self.acquisition.sampling, {}
        if isinstance(sampling, Trajectory):
            options["coord"] = np.moveaxis(sampling.coordinates.cpu().numpy(), 0, -1)
        state = np.random.get_state()  # noqa: NPY002  that is the one SigPy draws from
        try:
            np.random.seed(0)  # noqa: NPY002
            image = np.asarray(self.method.app(kspace, maps, show_pbar=False, **options).run())
        finally:
            np.random.set_state(state)  # noqa: NPY002
        if image.shape != self.acquisition.spatial_shape:
            raise InputError(
                "the app returns something else than an image",
                expected=f"an array of shape {self.acquisition.spatial_shape}",
                received=f"{image.shape} from {called(self.method.app)}",
                remedy="Use an app that reconstructs, such as SenseRecon, L1WaveletRecon or TotalVariationRecon.",
            )
        return image


def called(app: Callable[..., Any]) -> str:
    """Name of an app, with the options of a `functools.partial`."""
    if isinstance(app, partial):
        options = [f"{name}={value!r}" for name, value in app.keywords.items()]
        return ", ".join([called(app.func), *map(repr, app.args), *options])
    return getattr(app, "__name__", type(app).__name__)
