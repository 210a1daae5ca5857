"""One sketch for every noise covariance: the noise of each pair of coils apart."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.acquisition.noise_covariance import NoiseCovariance
from mrnoise.errors import InputError
from mrnoise.estimators.batching.stream import Plan, batches
from mrnoise.estimators.channels import ChannelCovariance, ChannelMoments
from mrnoise.estimators.key import Key
from mrnoise.estimators.sampler import sampler
from mrnoise.interruption import without_interruption
from mrnoise.linearization import Images, NoiseToImage
from mrnoise.mapping.assembly import MappedImage, assemble
from mrnoise.mapping.provenance import of_scan
from mrnoise.progress import MapProgress
from mrnoise.reconstruction.protocol import KspaceToImage, Reconstruction
from mrnoise.result.noise_map import NoiseMap
from mrnoise.result.provenance import Provenance

METHOD = "coil_sketch"


@dataclass(frozen=True, eq=False)
class CoilSketch:
    """What `coil_sketch` found: from it the noise map for any Ψ follows without another product.

    Parameters
    ----------
    reconstruction, acquisition
        What was sketched.
    parts
        Of each image that was reached, the reconstruction and the covariance of its responses: (K, K, *image) with
        K the number of coils C, or 2C where the reconstruction is not complex-linear.
    interrupted
        Whether Ctrl-C came before the last probe.
    provenance
        What the maps say of how they were made.

    Examples
    --------
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((16, 12), 4)
    >>> found = coil_sketch(CgSense(1e-3), scan, n_samples=16)
    >>> found.n_products, found.interrupted
    (64, False)
    >>> louder = found.noise_map(4 * scan.noise_covariance.matrix)
    >>> round(float((louder.std / found.noise_map().std).mean()), 3)
    2.0
    """

    reconstruction: Reconstruction | KspaceToImage = field(repr=False)
    acquisition: Acquisition
    parts: tuple[tuple[Tensor, ChannelCovariance], ...] = field(repr=False)
    interrupted: bool
    provenance: Provenance = field(repr=False)

    @property
    def n_products(self) -> int:
        """Jvps that were evaluated."""
        return sum(responses.n_samples * len(responses.matrix) for _, responses in self.parts)

    def noise_map(self, noise_covariance: NoiseCovariance | Tensor | None = None) -> NoiseMap:
        """The map for noise of covariance Ψ; the derivative stays that of the scan that was sketched.

        A reconstruction that whitens still does so with the Ψ of the acquisition: the map says what other noise would
        do to *this* image. The reference of its g-factor is the optimal combination for the new Ψ.

        Parameters
        ----------
        noise_covariance
            Ψ_cd = E n_c n_d*, total complex variance, (coil, coil). ``None``: that of the acquisition.

        Raises
        ------
        InputError
            If Ψ is no covariance of as many coils.
        """
        scan = self.acquisition
        psi = scan.noise_covariance if noise_covariance is None else NoiseCovariance.of(noise_covariance)
        if psi.n_coils != scan.n_coils:
            raise InputError(
                "coil count of the noise covariance does not match the sketch",
                expected=f"{scan.n_coils} × {scan.n_coils}",
                received=f"{psi.n_coils} × {psi.n_coils}",
                remedy="Give Ψ of the coils that were sketched, in their order.",
            )
        mapped = [
            MappedImage(
                value, found.estimate(psi.matrix, METHOD, found.n_samples * len(found.matrix), self.interrupted)
            )
            for value, found in self.parts
        ]
        images = Images.of(self.reconstruction, scan.replace(noise_covariance=psi))
        return assemble(images, mapped, dataclasses.replace(self.provenance, noise_covariance=psi.describe()))


def coil_sketch(
    reconstruction: Reconstruction | KspaceToImage,
    acquisition: Acquisition,
    *,
    n_samples: int,
    seed: int = 0,
    batch_size: int | None = None,
    progress: MapProgress | None = None,
) -> CoilSketch:
    """First-order noise of a reconstructed scan for every noise covariance Ψ, from one sketch.

    One probe w of random phase, without a coil axis, goes through J in each coil, J (e_c ⊗ w) = A_c w + B_c w*, and

        V = Σ_cd Ψ_cd (A_c A_dᴴ + B_d B_cᴴ)_rr

    follows for any Ψ from the mean of the products of these responses. A sample costs C jvps (2C where J is not
    complex-linear). It is worth between 1 sample of ``sketch``, where the responses to the coils differ by factors
    only, and C, where they are unrelated; 1.2 for CG-SENSE at R = 3 with 8 coils. It pays where more than about C
    covariances are asked for, or one that is not yet known.

    Parameters
    ----------
    reconstruction, acquisition
        As for `mrnoise.noise_map`.
    n_samples
        Probes w an image; 2 or more for an error bar.
    seed
        Every probe has its own generator, seeded by (seed, slice, probe).
    batch_size
        Jvps evaluated together; ``None``: from free memory. Does not change the result.
    progress
        Called after each probe; the error of a map, which depends on Ψ, is NaN.

    Returns
    -------
    CoilSketch
        Of C² (or 4C²) images in the precision of the reconstruction. After Ctrl-C: the probes so far.

    Raises
    ------
    InputError
        If the derivative of the reconstruction fails the preflight, or an option is invalid.

    Examples
    --------
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.sampling import equispaced
    >>> from mrnoise.simulation import random_noise_covariance, simulate
    >>> scan = simulate((16, 12), 4, mask=equispaced((16, 12), 2))
    >>> found = coil_sketch(CgSense(1e-3), scan, n_samples=50)
    >>> for condition_number in (1, 5, 20):  # no further products
    ...     nm = found.noise_map(random_noise_covariance(4, condition_number))
    ...     print(condition_number, round(float(nm.std.mean()), 2))
    1 3.19
    5 2.42
    20 1.82
    """
    plan = Plan(n_samples=n_samples, batch_size=batch_size)
    started = time.perf_counter()
    images = Images.of(reconstruction, acquisition)
    parts: list[tuple[Tensor, ChannelCovariance]] = []
    checks: dict[str, Any] = {}
    interrupted = False
    for index, operator in enumerate(images):
        checks = checks or operator.preflight.describe()
        moments = ChannelMoments(acquisition.n_coils)
        try:
            for k in range(n_samples):
                responses = _responses(operator, k, Key(seed, index), plan.batch_size)
                with without_interruption():
                    moments.add(*responses)
                if progress is not None:
                    progress(index, images.count, k + 1, n_samples, math.nan)
        except KeyboardInterrupt:
            if not parts and moments.count == 0:
                raise
            interrupted = True
        if moments.count:
            parts.append((operator.value.cpu(), moments.covariance()))
        if interrupted:
            break
    provenance = dataclasses.replace(
        of_scan(acquisition, images.reconstruction.estimates_coil_maps),
        reconstruction=images.reconstruction.title,
        why="one sketch for every noise covariance",
        noise_model="first order in the noise",
        seed=seed,
        distribution="phase",
        preflight=checks,
        seconds=round(time.perf_counter() - started, 3),
    )
    return CoilSketch(reconstruction, acquisition, tuple(parts), interrupted, provenance)


def _responses(operator: NoiseToImage, probe: int, key: Key, batch_size: int | None) -> tuple[Tensor, Tensor | None]:
    """J (e_c ⊗ w) and J (e_c ⊗ i w), (C, *image); w is white where samples were acquired."""
    acquisition = operator.acquisition
    c = acquisition.n_coils
    # Unit noise in each coil, weighted by sampling and averages.
    white = acquisition.replace(noise_covariance=torch.eye(c))
    draw = sampler(acquisition.image_shape, operator.noise_dtype, key=key, device=operator.device)
    w = draw([probe])[0]

    def evaluate(indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        noise = torch.zeros(len(indices), *operator.noise_shape, dtype=operator.noise_dtype, device=operator.device)
        for row, i in zip(noise, indices, strict=True):
            row.select(acquisition.coil_axis, i % c).copy_(w if i < c else 1j * w)
        return operator.derivative(white.colour(noise)), noise

    products = range(c if operator.complex_linear else 2 * c)
    responses = torch.cat([response for response, _ in batches(evaluate, products, batch_size, operator)])
    return responses[:c], None if operator.complex_linear else responses[c:]
