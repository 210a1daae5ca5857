"""What a network learns from: complete scans, the scan itself, or its behaviour under noise and motion.

Each paradigm is a loss of one scan. All images are whitened and normalised by `mrnoise.networks.intensity`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from mrnoise.encoding import Cartesian
from mrnoise.networks.deep_reconstruction import SOLVER_TOLERANCE, calibration_window, intensity
from mrnoise.training.scans import Example

# Relative residual at which the solvers inside a network stop while it learns: the gradient need not be exact.
TRAINING_TOLERANCE = 1e-2


@dataclass(frozen=True, eq=False)
class Sample:
    """A scan as a network sees it.

    Parameters
    ----------
    kspace
        Whitened, normalised, (coil, k1, k0).
    mask
        (k1, k0), real.
    maps
        Unit coil maps, (coil, y, x).
    target
        The image without noise, (y, x).
    labelled
        Whether a semi-supervised paradigm may use the target.
    """

    kspace: Tensor
    mask: Tensor
    maps: Tensor
    target: Tensor
    labelled: bool = True

    @classmethod
    def of(cls, example: Example, device: torch.device, labelled: bool = True) -> Sample:
        """Whiten and normalise, as `DeepReconstruction` does."""
        scan = example.acquisition
        assert scan.coil_maps is not None
        kspace = scan.whiten(scan.kspace)
        scale = intensity(kspace)
        return cls(
            (kspace / scale).to(device),
            scan.mask.to(device, kspace.real.dtype),
            scan.whiten_maps(scan.coil_maps).to(device),
            (example.target / scale).to(device),
            labelled,
        )


def reconstruct(network: Any, kspace: Tensor, mask: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
    """The image, and the coil maps it is combined with: those given, or those the network estimates."""
    if network.estimates_coil_maps:
        maps = network.coil_maps(calibration_window(mask) * kspace)
    tolerance = TRAINING_TOLERANCE if network.training else SOLVER_TOLERANCE
    return network(kspace, Cartesian(maps, mask, tolerance=tolerance)), maps


def distance(found: Tensor, wanted: Tensor) -> Tensor:
    """‖a - b‖₁/‖b‖₁ + ‖a - b‖₂/‖b‖₂ (Yaman et al. 2020)."""
    difference = found - wanted
    absolute = difference.abs().sum() / wanted.abs().sum()
    return absolute + torch.linalg.vector_norm(difference) / torch.linalg.vector_norm(wanted)


def supervised_loss(network: Any, sample: Sample) -> Tensor:
    """Distance from the target, seen with the phase of the coil maps in use."""
    image, maps = reconstruct(network, sample.kspace, sample.mask, sample.maps)
    target = sample.target
    if maps is not sample.maps:
        overlap = (maps.detach().conj() * sample.maps).sum(-3)
        target = target * torch.sgn(overlap)
    return distance(image, target)


class _Paradigm(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    labelled: float = Field(1.0, ge=0, le=1, description="Share of the training slices whose target may be used.")

    def loss(self, network: Any, sample: Sample, generator: torch.Generator) -> Tensor:
        """Loss of one scan; every random choice comes from the generator."""
        raise NotImplementedError


class Supervised(_Paradigm):
    """Distance from the noise-free image.

    Examples
    --------
    >>> from mrnoise.networks import build
    >>> from mrnoise.simulation import head_phantom
    >>> from mrnoise.training import Anatomy, ScanSettings, SimulatedScans
    >>> anatomy = Anatomy("head phantom", head_phantom((20, 32, 24))[:, None], gap=1)
    >>> scans = SimulatedScans(anatomy, "train", ScanSettings(matrix=((32, 24),), accelerations=(2,)))
    >>> sample = Sample.of(scans.example(0), torch.device("cpu"))
    >>> loss = Supervised().loss(build("modl", unrolls=1, features=4), sample, torch.Generator())
    >>> loss.shape, bool(loss < distance(0 * sample.target, sample.target))
    (torch.Size([]), True)
    """

    paradigm: Literal["supervised"] = "supervised"

    def loss(self, network: Any, sample: Sample, generator: torch.Generator) -> Tensor:
        """See the class."""
        return supervised_loss(network, sample)


class SSDU(_Paradigm):
    """Self-supervision by data undersampling: some acquired samples are held out and predicted from the others.

    Yaman et al. 2020, doi:10.1002/mrm.28378. No target is used.

    Parameters
    ----------
    share
        ρ, the part of the acquired samples held out, uniformly at random outside the central 4×4.

    Examples
    --------
    >>> from mrnoise.networks import build
    >>> from mrnoise.simulation import head_phantom
    >>> from mrnoise.training import Anatomy, ScanSettings, SimulatedScans
    >>> anatomy = Anatomy("head phantom", head_phantom((20, 32, 24))[:, None], gap=1)
    >>> scans = SimulatedScans(anatomy, "train", ScanSettings(matrix=((32, 24),), accelerations=(2,)))
    >>> sample = Sample.of(scans.example(0), torch.device("cpu"), labelled=False)
    >>> loss = SSDU(share=0.4).loss(build("modl", unrolls=1, features=4), sample, torch.Generator())
    >>> loss.backward()
    >>> loss.shape, bool(loss > 0)
    (torch.Size([]), True)
    """

    paradigm: Literal["ssdu"] = "ssdu"
    labelled: Literal[0] = 0
    share: float = Field(0.4, gt=0, lt=1)

    def loss(self, network: Any, sample: Sample, generator: torch.Generator) -> Tensor:
        """See the class."""
        draw = torch.rand(sample.mask.shape, generator=generator).to(sample.mask.device)
        k1, k0 = (n // 2 for n in sample.mask.shape)
        draw[k1 - 2 : k1 + 2, k0 - 2 : k0 + 2] = 1
        held_out = sample.mask * (draw < self.share)
        rest = sample.mask - held_out
        image, maps = reconstruct(network, rest * sample.kspace, rest, sample.maps)
        return distance(Cartesian(maps, held_out).forward(image), held_out * sample.kspace)


class Noise2Recon(_Paradigm):
    """Supervised where there is a target; elsewhere the image must not change when noise is added.

    Desai et al. 2023, doi:10.1002/mrm.29759.

    Parameters
    ----------
    weight
        Of the consistency loss.
    noise
        Smallest and largest total standard deviation of the added noise, in units of `intensity`.

    Examples
    --------
    >>> from mrnoise.networks import build
    >>> from mrnoise.simulation import head_phantom
    >>> from mrnoise.training import Anatomy, ScanSettings, SimulatedScans
    >>> anatomy = Anatomy("head phantom", head_phantom((20, 32, 24))[:, None], gap=1)
    >>> scans = SimulatedScans(anatomy, "train", ScanSettings(matrix=((32, 24),), accelerations=(2,)))
    >>> sample = Sample.of(scans.example(0), torch.device("cpu"), labelled=False)
    >>> network = build("modl", unrolls=1, features=4)
    >>> weak = Noise2Recon(noise=(0.01, 0.01)).loss(network, sample, torch.Generator().manual_seed(0))
    >>> strong = Noise2Recon(noise=(0.1, 0.1)).loss(network, sample, torch.Generator().manual_seed(0))
    >>> bool(weak < strong)
    True
    """

    paradigm: Literal["n2r"] = "n2r"
    labelled: float = 0.5
    weight: float = Field(0.1, gt=0)
    noise: tuple[float, float] = (0.02, 0.06)

    def loss(self, network: Any, sample: Sample, generator: torch.Generator) -> Tensor:
        """See the class."""
        if sample.labelled:
            return supervised_loss(network, sample)
        changed = sample.kspace + added_noise(sample, self.noise, generator)
        return self.weight * _consistency(network, sample, changed)


class VORTEX(_Paradigm):
    """Supervised where there is a target; elsewhere the image must not change under noise or motion of the object.

    Desai et al. 2022, doi:10.48550/arXiv.2111.02549, physics-driven part.

    Parameters
    ----------
    weight
        Of the consistency loss.
    noise
        As in `Noise2Recon`.
    shift, shots
        Largest displacement in voxels, and number of blocks of k1 between which the object moves.

    Examples
    --------
    >>> from mrnoise.networks import build
    >>> from mrnoise.simulation import head_phantom
    >>> from mrnoise.training import Anatomy, ScanSettings, SimulatedScans
    >>> anatomy = Anatomy("head phantom", head_phantom((20, 32, 24))[:, None], gap=1)
    >>> scans = SimulatedScans(anatomy, "train", ScanSettings(matrix=((32, 24),), accelerations=(2,)))
    >>> sample = Sample.of(scans.example(0), torch.device("cpu"), labelled=False)
    >>> loss = VORTEX(shift=1.5, shots=4).loss(build("modl", unrolls=1, features=4), sample, torch.Generator())
    >>> loss.shape, bool(loss > 0)
    (torch.Size([]), True)
    """

    paradigm: Literal["vortex"] = "vortex"
    labelled: float = 0.5
    weight: float = Field(0.1, gt=0)
    noise: tuple[float, float] = (0.02, 0.06)
    shift: float = Field(1.5, gt=0)
    shots: int = Field(8, gt=1)

    def loss(self, network: Any, sample: Sample, generator: torch.Generator) -> Tensor:
        """See the class."""
        if sample.labelled:
            return supervised_loss(network, sample)
        if float(torch.rand((), generator=generator)) < 0.5:
            changed = sample.kspace + added_noise(sample, self.noise, generator)
        else:
            changed = moved(sample.kspace, self.shift, self.shots, generator)
        return self.weight * _consistency(network, sample, changed)


def added_noise(sample: Sample, std: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Circular white noise on the acquired samples, its standard deviation drawn between two bounds."""
    low, high = std
    level = low + (high - low) * float(torch.rand((), generator=generator))
    noise = torch.randn(sample.kspace.shape, dtype=sample.kspace.dtype, generator=generator)
    return level * sample.mask * noise.to(sample.kspace.device)


def moved(kspace: Tensor, shift: float, shots: int, generator: torch.Generator) -> Tensor:
    """k-space of an object displaced between blocks of k1: y(k) exp(-2πi k·d), d = 0 in the central block."""
    n1, n0 = kspace.shape[-2:]
    displacement = shift * (2 * torch.rand((shots, 2), generator=generator) - 1)
    block = torch.arange(n1) * shots // n1
    displacement[block[n1 // 2]] = 0
    d1, d0 = displacement[block].T[..., None]
    k1 = (torch.arange(n1)[:, None] - n1 // 2) / n1
    k0 = (torch.arange(n0) - n0 // 2) / n0
    return kspace * torch.exp(-2j * pi * (k1 * d1 + k0 * d0)).to(kspace)


def _consistency(network: Any, sample: Sample, changed: Tensor) -> Tensor:
    with torch.no_grad():
        wanted, maps = reconstruct(network, sample.kspace, sample.mask, sample.maps)
    found, others = reconstruct(network, changed, sample.mask, sample.maps)
    if others is not maps:
        wanted = wanted * torch.sgn((others.detach().conj() * maps).sum(-3))
    return distance(found, wanted)
