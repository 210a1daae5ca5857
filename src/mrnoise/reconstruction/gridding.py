"""Gridding: the adjoint of a trajectory, each sample weighted by the part of k-space that it stands for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from mrnoise import fourier
from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.calibration.maps_of_scan import fixed_coil_maps, whitened_coil_maps
from mrnoise.encoding import Nufft
from mrnoise.encoding.density import pipe_menon_density
from mrnoise.reconstruction.bound import Bound
from mrnoise.reconstruction.protocol import KspaceToImage, Reconstruction
from mrnoise.sampling.trajectory import Trajectory


@dataclass(frozen=True, eq=False)
class Regridding:
    """Coil images EᴴW y of a trajectory.

    Parameters
    ----------
    transform
        E.
    density
        W, in cycles per field of view to the power of the dimension.
    """

    transform: Nufft
    density: Tensor

    @classmethod
    def of(cls, acquisition: Acquisition) -> Regridding:
        """With the density of the trajectory, or by iterations (`pipe_menon_density`) where it has none.

        Raises
        ------
        InputError
            If the scan is Cartesian.
        """
        trajectory = acquisition.trajectory
        return cls(Nufft(trajectory.coordinates, trajectory.image_shape), density_of(trajectory))

    def __call__(self, kspace: Tensor) -> Tensor:
        """Samples (..., *samples) → images (..., y, x)."""
        return self.transform.adjoint(self.density.to(kspace.device, kspace.real.dtype) * kspace)


def coil_images(acquisition: Acquisition) -> KspaceToImage:
    """From samples (..., *samples) to images (..., *spatial): Fᴴ of a grid, `Regridding` of a trajectory."""
    if isinstance(acquisition.sampling, Trajectory):
        return Regridding.of(acquisition)
    return partial(fourier.to_image, dims=acquisition.spatial_dims)


def density_of(trajectory: Trajectory) -> Tensor:
    """That of the trajectory, or by iterations where it has none."""
    return pipe_menon_density(trajectory) if trajectory.density is None else trajectory.density


@dataclass(frozen=True)
class Gridding(Reconstruction):
    """Gridding with density compensation, x = ψ SᴴΨ⁻¹EᴴW y with Ψ's mean variance ψ.

    W is the density of the trajectory, or found by iterations (Pipe and Menon 1999,
    doi:10.1002/(SICI)1522-2594(199901)41:1<179::AID-MRM25>3.0.CO;2-V) where it has none. Its σ has a closed form,
    `mrnoise.closed_form.gridding_std`. For trajectories; `ZeroFilled` is the same on a grid.

    Parameters
    ----------
    differentiate_coil_maps
        Where the acquisition has no coil maps: propagate the noise of the centre of k-space through the ESPIRiT
        estimate (True) or hold the maps fixed.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.sampling import Trajectory
    >>> from mrnoise.simulation import simulated_head
    >>> from mrnoise.encoding import NonCartesian
    >>> head = simulated_head((16, 12), 4)
    >>> k, angle = torch.linspace(-6, 6, 24), torch.arange(20)[:, None] * torch.pi / 20
    >>> spokes = Trajectory(torch.stack([k * angle.sin(), k * angle.cos()]), (16, 12))
    >>> kspace = NonCartesian(head.coil_maps, spokes).forward(head.image)
    >>> scan = Acquisition(kspace, 1e-4 * torch.eye(4), coil_maps=head.coil_maps, sampling=spokes)
    >>> nm = noise_map(Gridding(), scan)
    >>> nm.method, tuple(nm.std.shape)
    ('closed_form', (16, 12))
    """

    unit_gain = False  # of the resolution of the trajectory, and of any scale of its density
    differentiate_coil_maps: bool = True

    def bind(self, acquisition: Acquisition) -> BoundGridding:
        """Return kspace (..., coil, *samples) → complex image (..., y, x)."""
        maps = fixed_coil_maps(acquisition, self.differentiate_coil_maps)
        return BoundGridding(self, acquisition, Regridding.of(acquisition), maps)


@dataclass(frozen=True, eq=False, repr=False)
class BoundGridding(Bound):
    """`Gridding` of one scan.

    Parameters
    ----------
    regridding
        EᴴW.
    fixed
        Coil maps; ``None``: they follow from each k-space.
    """

    regridding: Regridding
    fixed: Tensor | None

    @property
    def complex_linear(self) -> bool:
        """With fixed coil maps."""
        return self.fixed is not None

    def __call__(self, kspace: Tensor) -> Tensor:
        """SᴴEᴴW of the whitened k-space, (..., coil, *samples) → (..., y, x)."""
        scan, maps = self.acquisition, self.fixed
        if maps is None:
            maps = whitened_coil_maps(scan, kspace)
        images = self.regridding(scan.whiten(kspace))
        return torch.linalg.vecdot(maps, images, dim=-scan.spatial_dims - 1)
