"""Reconstructions of mrpro."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.calibration.maps_of_scan import fixed_coil_maps
from mrnoise.reconstruction.adapters.common import check_single, checked_output, package_of_host
from mrnoise.reconstruction.bound import Bound
from mrnoise.reconstruction.protocol import Reconstruction
from mrnoise.sampling.grid import Grid
from mrnoise.sampling.trajectory import Trajectory


@dataclass(frozen=True)
class Mrpro(Reconstruction):
    """A reconstruction of ``mrpro.algorithms.reconstruction``.

    It is made on `bind`, by make(kdata, csm=csm): ``kdata`` holds the acquired samples, whitened, √ψ Ψ^{-1/2} y, ψ the
    mean coil variance, and ``csm`` coil maps whitened alike. Then it is called with the samples of each k-space. The
    transform of mrpro is unitary: its SENSE has the scale of the scan. Coil maps of the scan, ESPIRiT maps where it has
    none, and whatever ``make`` computes from the data, are held fixed.

    Parameters
    ----------
    make
        A class of ``mrpro.algorithms.reconstruction``, with its options as in ``functools.partial(
        RegularizedIterativeSENSEReconstruction, n_iterations=20, regularization_weight=0.01)``.

    Raises
    ------
    InputError
        On `bind`, if mrpro cannot be imported or the scan is more than one image; of an image, if it is none.
    """

    make: Callable[..., Any] = field(repr=False)

    def bind(self, acquisition: Acquisition) -> BoundMrpro:
        """Return kspace (coil, k1, k0) or (coil, *samples) → complex image (y, x)."""
        check_single(acquisition)
        data = package_of_host("mrpro.data", "mrpro")
        index, places = samples_of(acquisition.sampling)
        y, maps = acquisition.whiten(acquisition.kspace), fixed_coil_maps(acquisition, differentiate=False)
        assert maps is not None
        matrix = (1, *acquisition.spatial_shape)[-3:]
        field_of_view = [n * length / 1000 for n, length in zip(matrix, acquisition.geometry.voxel_size, strict=True)]
        shape, size = data.SpatialDimension(*matrix), data.SpatialDimension(*field_of_view)
        header = data.KHeader(recon_matrix=shape, encoding_matrix=shape, recon_fov=size, encoding_fov=size)
        trajectory = data.KTrajectory(*places[:, None, None, None].to(y.device, y.real.dtype))
        kdata = data.KData(header=header, data=in_lines(y, index), traj=trajectory)
        csm = data.CsmData(header=data.IHeader.from_kheader(header), data=maps.reshape(1, -1, *matrix))
        return BoundMrpro(self, acquisition, index, kdata, self.make(kdata, csm=csm))


@dataclass(frozen=True, eq=False, repr=False)
class BoundMrpro(Bound):
    """`Mrpro` of one scan.

    Parameters
    ----------
    index
        Places of the samples in k-space, (line, sample).
    kdata
        The measured data.
    reconstruction
        What ``make`` gave.
    """

    method: Mrpro
    index: Tensor
    kdata: Any
    reconstruction: Callable[..., Any]

    def __call__(self, kspace: Tensor) -> Tensor:
        """The image of mrpro, (coil, k1, k0) → (y, x)."""
        samples = in_lines(self.acquisition.whiten(kspace), self.index)
        kdata = type(self.kdata)(header=self.kdata.header, data=samples, traj=self.kdata.traj)
        shape = self.acquisition.spatial_shape
        image = self.reconstruction(kdata).data
        return checked_output(image, (1, 1, *(1, *shape)[-3:])).reshape(shape)


def samples_of(sampling: Grid | Trajectory) -> tuple[Tensor, Tensor]:
    """Where samples lie: flat places in the k-space of a coil (line, sample), and kz, ky, kx of each.

    Lines are those along k0 where they all have the same samples, else single samples.
    """
    if isinstance(sampling, Trajectory):
        index = torch.arange(sampling.n_samples).reshape(-1, sampling.sample_shape[-1])
        places = sampling.coordinates.flatten(1)
    else:
        mask = sampling.shared().cpu()
        lines = mask.flatten(0, -2)
        rows, columns = lines.any(1).nonzero(), lines.any(0).nonzero()[:, 0]
        whole = bool(lines[rows, columns].all())
        index = rows * lines.shape[1] + columns if whole else mask.flatten().nonzero()
        axes = [torch.arange(n) - n // 2 for n in mask.shape]
        places = torch.stack([axis.flatten() for axis in torch.meshgrid(*axes, indexing="ij")])
    flat = places.new_zeros(3 - len(places), *places.shape[1:])
    return index, torch.cat([flat, places])[:, index]


def in_lines(kspace: Tensor, index: Tensor) -> Tensor:
    """(Coil, …) as mrpro has it, (1, coil, 1, line, sample)."""
    return kspace.flatten(1)[:, index.to(kspace.device)][None, :, None]
