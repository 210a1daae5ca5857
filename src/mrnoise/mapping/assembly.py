"""From the images of a scan to its noise map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.acquisition.geometry import Geometry
from mrnoise.acquisition.image_grid import ImageGrid
from mrnoise.closed_form.averages import image_averages
from mrnoise.closed_form.sense import combined_std, fully_sampled_std
from mrnoise.estimators import Choice, Estimate, Linearity
from mrnoise.estimators.choice.linearity import join as join_linearity
from mrnoise.estimators.estimate import stack, unknown
from mrnoise.linearization import Images, Preflight
from mrnoise.result.noise_map import NoiseMap
from mrnoise.result.provenance import Provenance
from mrnoise.sampling.trajectory import Trajectory


@dataclass(frozen=True, eq=False)
class MappedImage:
    """One image with its noise.

    Parameters
    ----------
    value
        The image.
    estimate
        Its noise.
    linearity
        Whether first order holds; ``None`` where the noise is not first-order.
    choice
        The method, and why.
    preflight
        What was found of the reconstruction.
    """

    value: Tensor
    estimate: Estimate
    linearity: Linearity | None = None
    choice: Choice | None = None
    preflight: Preflight | None = None


def assemble(images: Images, mapped: Sequence[MappedImage], provenance: Provenance) -> NoiseMap:
    """The map of a scan from its images, those not reached NaN."""
    scan, first = images.acquisition, mapped[0]
    missing = images.count - len(mapped)
    values = [one.value for one in mapped] + [torch.full_like(first.value, torch.nan)] * missing
    estimates = [one.estimate for one in mapped] + [unknown(first.estimate)] * missing
    image = images.join(values)
    checked = [one.linearity for one in mapped if one.linearity is not None]
    linearity = join_linearity(checked, images.count, images.shape) if checked else None
    if linearity is not None:
        linearity = replace(linearity, departure=images.ordered(linearity.departure))
    return NoiseMap(
        image=image,
        estimate=stack(estimates, images.shape).map(images.ordered) if images.shape else first.estimate,
        geometry=geometry_of(scan, image),
        spatial_dims=scan.spatial_dims,
        reference_std=reference_std_of(images, image),
        acceleration=scan.acceleration,
        linearity=linearity,
        axes=images.axes,
        provenance=provenance,
    )


def geometry_of(acquisition: Acquisition, image: Tensor) -> Geometry:
    """Geometry of an image whose matrix is that of k-space or its central part."""
    before = [n // 2 - m // 2 for n, m in zip(acquisition.spatial_shape, _spatial(acquisition, image), strict=True)]
    return acquisition.geometry.cropped(tuple([0] * (3 - len(before)) + before))  # type: ignore[arg-type]


def grid_of(images: Images) -> ImageGrid:
    """Where the voxels of all images lie."""
    scan, image = images.acquisition, images.reconstruct()
    return ImageGrid(tuple(image.shape), scan.spatial_dims, images.axes, geometry_of(scan, image))


def reference_std_of(images: Images, image: Tensor) -> Tensor | None:
    """σ of the fully sampled SENSE image, or of `combined_std`, where it may be compared with that of ``image``.

    Where images differ in their acceleration R_i it is √(R_i / R) times that, R the net acceleration of all, so that
    √R times the reference is √R_i σ_i for each.

    Of other real images, whose σ is that of one noise component, and of images of another intensity there is none.
    """
    scan, method = images.acquisition, images.reconstruction
    if _spatial(scan, image) != scan.spatial_shape or image_averages(scan) is None:
        return None
    if method.unit_weights:
        reference = torch.where(image == 0, 0.0, combined_std(scan).to(image.device))
        reference = reference if image.is_complex() else reference / 2**0.5
    elif image.is_complex() and method.unit_gain and scan.coil_maps is not None:
        reference = fully_sampled_std(scan)
    else:
        return None
    if isinstance(scan.sampling, Trajectory) or scan.mask.ndim == scan.spatial_dims:
        return reference  # all images were sampled alike
    own = [images.scan(index).acceleration for index in range(images.count)]
    if min(own) == max(own):
        return reference
    # Images of different sampling are compared at their own R, while the map has that of all of them together.
    share = torch.tensor(own, dtype=reference.dtype, device=reference.device) / scan.acceleration
    return images.ordered(share.sqrt().reshape(*images.shape, *[1] * (reference.ndim - len(images.shape)))) * reference


def _spatial(acquisition: Acquisition, image: Tensor) -> tuple[int, ...]:
    return tuple(image.shape[-acquisition.spatial_dims :])
