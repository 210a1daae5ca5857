"""A simulated scan: noise-free k-space of a known object, and any number of noisy repetitions of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod

import numpy as np
import torch
from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.acquisition.geometry import Geometry
from mrnoise.acquisition.image_grid import DEFAULT_AXES
from mrnoise.acquisition.noise_covariance import NoiseCovariance
from mrnoise.checks import check_count, check_memory, check_seed
from mrnoise.encoding import Cartesian, Nufft
from mrnoise.errors import InputError
from mrnoise.sampling.trajectory import Trajectory
from mrnoise.simulation.coils import biot_savart_coils, random_noise_covariance
from mrnoise.simulation.phantom import beating_disc, head_phantom, smooth_phase

FIELD_OF_VIEW = 220.0  # mm
SLICE_SPAN = (-0.2, 0.45)  # of a multi-slice scan, in half fields of view: ventricles to vertex
FOREGROUND = 0.1  # of the largest magnitude
# What it takes to simulate a voxel, and each coil of it, at least.
VOXEL_BYTES, COIL_BYTES, MOST_COILS, MOST_FRAMES = 48, 48, 4096, 4096


@dataclass(frozen=True, eq=False)
class Simulation:
    """An object, a receive array and its noise: y = M (F S x + Ψ^{1/2} v), v unit circular; E for M F of a trajectory.

    Parameters
    ----------
    image
        The object x, complex, (..., y, x) or, with ``spatial_dims=3``, (..., z, y, x).
    coil_maps
        True sensitivities S, (..., coil, y, x) or (..., coil, z, y, x).
    noise_covariance
        Ψ, total complex variance.
    mask
        Bool, spatial shape; (frame, *spatial) where images differ along their first axis. ``None``: fully sampled.
    geometry, spatial_dims, axes
        As in `Acquisition`.
    trajectory
        Where samples lie, instead of a mask.

    Raises
    ------
    InputError
        If image, coil maps and noise covariance do not have the same axes.

    Examples
    --------
    >>> head = simulated_head((16, 12), 4, snr=20.0)
    >>> round(head.snr, 2), round(head.with_snr(40.0).snr, 2)
    (20.0, 40.0)
    >>> first, second = head.acquire(seed=1), head.acquire(seed=2)  # same head, other noise
    >>> noise = (first.kspace - second.kspace) / 2**0.5
    >>> round(float(noise.abs().square().mean()) / head.noise_covariance.mean_variance, 2)
    1.05
    """

    image: Tensor
    coil_maps: Tensor
    noise_covariance: NoiseCovariance
    mask: Tensor | None = None
    geometry: Geometry = field(default_factory=lambda: Geometry(measured=False))
    spatial_dims: int = 2
    trajectory: Trajectory | None = None
    axes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        axis = -self.spatial_dims - 1
        maps = tuple(self.coil_maps.shape)
        spatial = tuple(self.image.shape[-self.spatial_dims :])
        n_coils = self.noise_covariance.n_coils
        leading = self.image.shape[: axis + 1]
        if maps not in ((n_coils, *spatial), (*leading, n_coils, *spatial)):
            raise InputError(
                "coil maps do not fit the image and the noise covariance",
                expected=f"{(n_coils, *spatial)}, with the leading axes of the image or none",
                received=str(maps),
                remedy="Coil maps have the axes of the image and a coil axis before the spatial ones.",
            )
        if self.trajectory is not None and (self.mask is not None or self.trajectory.image_shape != spatial):
            raise InputError(
                "the trajectory does not fit the scan",
                expected=f"one of the matrix {spatial}, and no mask",
                received=f"one of {self.trajectory.image_shape}" + ("" if self.mask is None else " and a mask"),
                remedy="Give either a trajectory of this matrix or a mask.",
            )

    @cached_property
    def signal(self) -> Tensor:
        """Noise-free k-space: fully sampled F S x, (..., coil, k1, k0), or E S x, (..., coil, *samples)."""
        if self.trajectory is not None:
            images = self.coil_maps * self.image.unsqueeze(-self.spatial_dims - 1)
            return Nufft(self.trajectory.coordinates, self.trajectory.image_shape).forward(images)
        everywhere = torch.ones(self.image.shape[-self.spatial_dims :], dtype=torch.bool, device=self.image.device)
        return Cartesian(self.coil_maps, everywhere, self.spatial_dims).forward(self.image)

    def acquire(self, seed: int = 0) -> Acquisition:
        """One scan; another seed gives the same object with independent noise."""
        check_seed(seed)
        dims, shape = self.spatial_dims, self.image.shape
        mask = torch.ones(shape[-dims:]) if self.mask is None else torch.as_tensor(self.mask)
        if mask.ndim == dims + 1 < len(shape):
            mask = mask.reshape(len(mask), *[1] * (len(shape) - dims - 1), *mask.shape[1:]).expand(shape)
        acquisition = Acquisition(
            self.signal,
            self.noise_covariance,
            mask=mask if self.trajectory is None else None,
            sampling=self.trajectory,
            coil_maps=self.coil_maps,
            geometry=self.geometry,
            spatial_dims=self.spatial_dims,
            source=f"simulation, noise seed {seed}",
            axes=self.axes,
        )
        noise = torch.randn(self.signal.shape, dtype=self.signal.dtype, generator=_generator(seed, 0))
        return acquisition.replace(kspace=acquisition.kspace + acquisition.colour(noise))

    def noise_scan(self, n_samples: int, seed: int = 0) -> Tensor:
        """Samples without signal, (coil, n_samples), of the same Ψ and independent of `acquire`."""
        shape = (self.noise_covariance.n_coils, n_samples)
        check_count(n_samples, "number of noise samples")
        check_memory(32 * prod(shape), "the noise scan", "Give fewer samples.")
        noise = torch.randn(shape, dtype=self.signal.dtype, generator=_generator(seed, 1))
        return self.noise_covariance.colour(noise, 0)

    @property
    def foreground(self) -> Tensor:
        """Bool, shaped as the image: |x| above a tenth of its maximum."""
        magnitude = self.image.abs()
        return magnitude > FOREGROUND * magnitude.max()

    @property
    def optimal_std(self) -> Tensor:
        """σ_i = (S_iᴴ Ψ⁻¹ S_i)^{-1/2}: noise of the fully sampled optimal combination (SENSE at R = 1)."""
        axis = -self.spatial_dims - 1
        power = self.noise_covariance.whiten(self.coil_maps, axis).abs().square().sum(axis)
        return power.rsqrt().expand(self.image.shape)

    @property
    def snr(self) -> float:
        """Mean over the foreground of |x_i| / σ_i, σ_i the total complex `optimal_std`."""
        return float((self.image.abs() / self.optimal_std)[self.foreground].mean())

    def series(self, factor: Tensor, axis: str = "frame", mask: Tensor | None = None) -> Simulation:
        """The object over time, x_t = f_t x, in the same coils and the same noise.

        Parameters
        ----------
        factor
            f, real or complex, (frame, y, x) or (frame, z, y, x), or broadcast with it: exp(-TE / T2), motion.
        axis
            Name of its first axis, the first of all data from here on.
        mask
            Bool, spatial shape, or (frame, *spatial). ``None``: as before.

        Raises
        ------
        InputError
            If the factor does not fit the image.

        Examples
        --------
        >>> echo_times, t2 = torch.tensor([10.0, 30.0, 50.0]), torch.full((16, 12), 80.0)  # ms
        >>> head = simulated_head((16, 12), 4)
        >>> echoes = head.series(torch.exp(-echo_times[:, None, None] / t2), "echo")
        >>> tuple(echoes.image.shape), echoes.acquire().axes
        ((3, 16, 12), ('echo',))
        >>> round(float(echoes.image[2, 8, 6].abs() / head.image[8, 6].abs()), 3)  # exp(-50 / 80)
        0.535
        """
        factor = torch.as_tensor(factor)
        try:
            image = factor * self.image
        except RuntimeError as error:
            raise _not_of_image(factor, self.image) from error
        if image.ndim != self.image.ndim + 1 or image.shape[1:] != self.image.shape:
            raise _not_of_image(factor, self.image)
        own = self.image.ndim - self.spatial_dims
        names = tuple(reversed(DEFAULT_AXES[:own])) if self.axes is None else self.axes
        return replace(
            self,
            image=image.to(self.image.dtype),
            coil_maps=self.coil_maps.expand(len(image), *self.coil_maps.shape) if own else self.coil_maps,
            mask=self.mask if mask is None else mask,
            axes=(axis, *names),
        )

    def with_snr(self, snr: float) -> Simulation:
        """Same scan with Ψ scaled so that `snr` has this value."""
        if not (np.isfinite(snr) and snr > 0):
            raise InputError(
                "signal-to-noise ratio is not possible",
                expected="a positive number",
                received=f"{snr:g}",
                remedy="Use 20 for a typical scan.",
            )
        psi = NoiseCovariance(
            self.noise_covariance.matrix * (self.snr / snr) ** 2,
            self.noise_covariance.source,
            self.noise_covariance.n_samples,
        )
        return replace(self, noise_covariance=psi)


def simulated_head(
    shape: Sequence[int] = (256, 256),
    n_coils: int = 8,
    *,
    snr: float = 30.0,
    noise_covariance: NoiseCovariance | None = None,
    mask: Tensor | None = None,
    trajectory: Trajectory | None = None,
    n_slices: int | None = None,
    n_frames: int | None = None,
    seed: int = 0,
) -> Simulation:
    """The head phantom in a receive array, before noise is drawn.

    Parameters
    ----------
    shape
        (y, x) for slices, (z, y, x) for a volume; 220 mm along every axis.
    n_coils
        Number of loops around the head.
    snr
        Mean over the foreground (|x| > 0.1 max |x|) of |x_i| / σ_i with σ_i = (S_iᴴ Ψ⁻¹ S_i)^{-1/2}, the
        total complex noise of the fully sampled optimal combination. Ψ is scaled to meet it.
    noise_covariance
        Ψ up to its scale. ``None``: strongly correlated coils, condition number 20.
    mask
        Bool, ``shape``, or (frame, *shape) where frames differ: the acquired samples. ``None``: all.
    trajectory
        Where samples lie, instead of a mask.
    n_slices
        Number of slices from the ventricles to the vertex, a leading axis of all data. ``None``: one slice
        without that axis.
    n_frames
        Number of frames of a heart beat, the first axis of all data: a disc in the middle of the head beats, see
        `beating_disc`. ``None``: one image without that axis.
    seed
        Draws the coil positions, the phase of the object and Ψ.

    Returns
    -------
    Simulation
        The image (..., y, x) or (z, y, x) with its coils; `Simulation.acquire` draws the noise.

    Raises
    ------
    InputError
        If the arguments do not fit each other.

    Examples
    --------
    >>> head = simulated_head((16, 12), 4, n_slices=3, snr=25.0)
    >>> tuple(head.image.shape), tuple(head.coil_maps.shape), round(head.snr, 2)
    ((3, 16, 12), (3, 4, 16, 12), 25.0)
    >>> tuple(round(mm, 1) for mm in head.geometry.spacing)
    (35.8, 13.8, 18.3)
    """
    check_seed(seed)
    check_count(n_coils, "number of coils", most=MOST_COILS)
    spatial_dims = len(shape)
    if n_slices is not None and (spatial_dims != 2 or n_slices < 1):
        raise InputError(
            "slices are not possible here",
            expected="at least 1 slice of shape (y, x)",
            received=f"{n_slices} slices of shape {tuple(shape)}",
            remedy="Leave n_slices out for a volume (z, y, x).",
        )
    if n_frames is not None:
        check_count(n_frames, "number of frames", most=MOST_FRAMES)
    n_voxels = prod(shape) * (n_slices or 1) * (n_frames or 1)
    check_memory(n_voxels * (VOXEL_BYTES + n_coils * COIL_BYTES), "the scan", "Give a smaller matrix, or fewer coils.")
    full, z, thickness = tuple(shape), None, 5.0
    if n_slices is not None:
        full = (n_slices, *shape)
        z = list(np.linspace(*SLICE_SPAN, n_slices)) if n_slices > 1 else [0.0]
        thickness = max((z[-1] - z[0]) / max(n_slices - 1, 1) * FIELD_OF_VIEW / 2, 1.0)
    phase = smooth_phase(full, seed, z)
    image = torch.polar(head_phantom(full, z), phase)
    maps = biot_savart_coils(n_coils, full, seed, z=z)
    psi = noise_covariance or random_noise_covariance(n_coils, 20.0 if n_coils > 1 else 1.0, seed)
    if n_slices is not None:
        maps = maps.movedim(0, 1)
    in_plane = FIELD_OF_VIEW / shape[-2], FIELD_OF_VIEW / shape[-1]
    geometry = Geometry((FIELD_OF_VIEW / shape[0] if spatial_dims == 3 else thickness, *in_plane))
    head = Simulation(image, maps, psi, mask, geometry, spatial_dims, trajectory)
    if n_frames is not None:
        head = head.series(beating_disc(full, n_frames, z))
    return head.with_snr(snr)


def simulate(
    shape: Sequence[int] = (256, 256),
    n_coils: int = 8,
    *,
    snr: float = 30.0,
    noise_covariance: NoiseCovariance | None = None,
    mask: Tensor | None = None,
    trajectory: Trajectory | None = None,
    n_slices: int | None = None,
    n_frames: int | None = None,
    seed: int = 0,
) -> Acquisition:
    """One noisy scan of the head phantom; `simulated_head` takes the same arguments and repeats scans.

    Parameters
    ----------
    shape, n_coils, snr, noise_covariance, mask, trajectory, n_slices, n_frames
        As for `simulated_head`.
    seed
        Of object, coils and Ψ, as for `simulated_head`, and of the noise.

    Returns
    -------
    Acquisition
        Complex64 k-space (..., coil, k1, k0), (coil, k2, k1, k0) or (..., coil, *samples), with the true coil maps.

    Examples
    --------
    >>> from mrnoise.sampling import equispaced
    >>> scan = simulate((16, 12), 4, mask=equispaced((16, 12), 2), snr=20.0)
    >>> tuple(scan.kspace.shape), scan.acceleration, scan.source
    ((4, 16, 12), 2.0, 'simulation, noise seed 0')
    """
    return simulated_head(
        shape,
        n_coils,
        snr=snr,
        noise_covariance=noise_covariance,
        mask=mask,
        trajectory=trajectory,
        n_slices=n_slices,
        n_frames=n_frames,
        seed=seed,
    ).acquire(seed)


def _not_of_image(factor: Tensor, image: Tensor) -> InputError:
    return InputError(
        "the factor is not that of a series of this image",
        expected=f"shape (n, {', '.join(map(str, image.shape))}), or broadcast with it",
        received=str(tuple(factor.shape)),
        remedy="One image of factors for each point in time: factor[:, None, None] of numbers.",
    )


def _generator(seed: int, stream: int) -> torch.Generator:
    """Independent streams for the scan and the noise scan of one seed."""
    state = np.random.SeedSequence([seed, stream]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) % 2**63)
