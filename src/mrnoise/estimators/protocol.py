"""What a method is, and what it sees of an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor

from mrnoise.errors import InputError
from mrnoise.estimators.batching.stream import Plan
from mrnoise.estimators.control_variate import Features
from mrnoise.estimators.estimate import Estimate
from mrnoise.estimators.key import Key
from mrnoise.estimators.operator import NoiseOperator

if TYPE_CHECKING:
    from mrnoise.estimators.choice.linearity import Linearity
    from mrnoise.estimators.choice.pilot import Prospect

Derivative = Literal["derivative", "adjoint"]


class Image(Protocol):
    """One image of a scan: its noise operator, and what may stand beside it.

    Examples
    --------
    >>> from mrnoise.linearization import linearize
    >>> from mrnoise.mapping.scan_image import ScanImage
    >>> from mrnoise.reconstruction import Sense
    >>> from mrnoise.sampling import equispaced
    >>> from mrnoise.simulation import simulate
    >>> (operator,) = linearize(Sense(), simulate((16, 12), 4, mask=equispaced((16, 12), 2)))
    >>> image = ScanImage(operator, Sense())
    >>> image.mode("derivative"), int(image.alias_colours().max()) + 1, tuple(image.closed_form().shape)
    ('vmap(J t = g(t))', 2, (16, 12))
    """

    @property
    def operator(self) -> NoiseOperator:
        """L."""
        ...

    @property
    def region(self) -> Tensor:
        """The object, bool, image-shaped."""
        ...

    @property
    def known(self) -> Known:
        """Samples that were taken already."""
        ...

    def mode(self, derivative: Derivative) -> str | None:
        """How ``apply`` or ``adjoint`` of the operator is computed; ``None`` where it may not be used."""
        ...

    def require(self, *derivatives: Derivative) -> None:
        """Raise `InputError` where one may not."""
        ...

    def loud_pair(self) -> tuple[Tensor, Tensor] | None:
        """g(y+n) - g(y) and Jn of an n as large as the data, scaled to its noise, (1, *image) each.

        Of a reconstruction that is linear by its own word, where they agreed; ``None`` of others.
        """
        ...

    @property
    def seconds(self) -> float:
        """That one image took."""
        ...

    def features(self, most_seconds: float = inf) -> Features | None:
        """Cheap images for control variates; ``None`` where the scan has none, or none in so many seconds."""
        ...

    def required_features(self) -> Features:
        """The same, or the `InputError` that says what is missing."""
        ...

    def alias_colours(self, most: int | None = None) -> Tensor:
        """Colours by which the voxels of every alias set differ, or the `InputError` that there are none."""
        ...

    def in_half_precision(self) -> NoiseOperator:
        """L with convolutions in bfloat16."""
        ...

    def closed_form(self, most_voxels: int | None = None) -> Tensor:
        """Variance in closed form, or the `InputError` that there is none, or takes more voxels in one matrix."""
        ...

    def voxel_variance(self, error: float) -> Callable[[Tensor], Tensor] | None:
        """Variance of single voxels, (B, dims) → (B,), to a relative error of σ; ``None``: no way but a row of L."""
        ...


@dataclass(eq=False)
class Known:
    """What was found of an image when its method was chosen, for the method that goes on from it.

    Parameters
    ----------
    replicas
        The first replicas, (B, *image).
    pairs
        The first products and their approximations in half precision, (B, *image) each.
    spots
        What was found by spots, see `mrnoise.estimators.spots`: exact in some voxels, whatever it says of the others.
    closed_form
        Variance, image-shaped.
    """

    replicas: Tensor | None = None
    pairs: tuple[Tensor, Tensor] | None = None
    spots: Estimate | None = None
    closed_form: Tensor | None = None

    def kept_in(self, estimate: Estimate) -> Estimate:
        """An estimate with the voxels that are known exactly; their error is stated as that of samples."""
        if self.spots is None:
            return estimate
        exact = self.spots.variance_error == 0
        return replace(
            estimate,
            variance=torch.where(exact, self.spots.variance, estimate.variance),
            pseudo_variance=torch.where(exact, self.spots.pseudo_variance, estimate.pseudo_variance),
        )


@dataclass(frozen=True, eq=False)
class Choice:
    """A method, why it was taken, and what else it would have cost.

    It serves for the images of a scan, and for other scans alike: ``noise_map(recon, scan, method=choice.method)``
    takes no new pilot.

    Parameters
    ----------
    method
        To be used.
    why
        The reason, with figures.
    prospects
        What each way was predicted to cost, the cheapest first; empty where there was no pilot.
    linearity
        Of the image it was made on, where it was found out on the way.
    tolerance
        On the error of first order of further images; ``None``: the usual one.

    Examples
    --------
    >>> from mrnoise import choose, noise_map
    >>> from mrnoise.reconstruction import Sense
    >>> from mrnoise.sampling import equispaced
    >>> from mrnoise.simulation import simulated_head
    >>> head = simulated_head((16, 12), 4, mask=equispaced((16, 12), 2))
    >>> choice = choose(Sense(), head.acquire(seed=1))
    >>> choice.why
    'a linear reconstruction that keeps alias sets apart: no sampling error, at no more products than samples'
    >>> noise_map(Sense(), head.acquire(seed=2), method=choice.method).method
    'lattice'
    """

    method: Method
    why: str
    prospects: tuple[Prospect, ...] = ()
    linearity: Linearity | None = None
    tolerance: float | None = None

    def __str__(self) -> str:
        lines = [f"{self.method!r}: {self.why}"]
        for prospect in self.prospects:
            lines.append(f"  {prospect.n_samples:>7} samples, {prospect.seconds:8.3g} s: {prospect.way}")
        if self.linearity is not None:
            lines.append(f"The reconstruction is {self.linearity.sentence}.")
        return "\n".join(lines)


class Method:
    """A way to estimate noise, with its options: a small frozen object that can be pickled and shown.

    A subclass names itself and says what it needs; `estimate` does the work. Adding one to `METHODS` is all that it
    takes for ``noise_map(..., method=name)`` and the command line to know it.

    Examples
    --------
    >>> from dataclasses import dataclass, replace
    >>> from mrnoise import noise_map
    >>> from mrnoise.estimators import sketch
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.simulation import simulate
    >>> @dataclass(frozen=True)
    ... class RealProbes(Method):
    ...     name = "real probes"
    ...     def estimate(self, image, plan, key, start=None):
    ...         return replace(sketch(image.operator, plan, key=key, distribution="rademacher"), method=self.name)
    >>> nm = noise_map(CgSense(1e-3), simulate((16, 12), 4), method=RealProbes(), n_samples=50)
    >>> nm.method, nm.n_samples, nm.linearity.verdict
    ('real probes', 50, 'linear')
    """

    first_order: bool = True
    """Whether its map holds to first order in the noise, hence at every noise level."""
    needs: frozenset[Derivative] = frozenset({"derivative"})
    """The derivatives without which it cannot work."""
    resumable: bool = False
    """Whether it can go on from an earlier estimate."""
    exhaustive: bool = False
    """Whether it takes no stopping rule: it ends when all is known."""

    @property
    def name(self) -> str:
        """What ``method=`` calls it, and the result."""
        raise NotImplementedError

    @property
    def distribution_name(self) -> str:
        """Of its random probes."""
        return "none"

    def choose(self, image: Image, plan: Plan, key: Key, *, n_images: int = 1) -> Choice:
        """The method to be used for all of ``n_images``, of which this is the first: itself, but for `Auto`."""
        return Choice(self, "asked for")

    def estimate(self, image: Image, plan: Plan, key: Key, start: Estimate | None = None) -> Estimate:
        """Noise of one image.

        Parameters
        ----------
        image
            What is known of it.
        plan
            When to stop.
        key
            Entropy of the noise.
        start
            An earlier estimate of the same image, method and key to go on from.
        """
        raise NotImplementedError

    def going_on(self, earlier: str, options: Mapping[str, Any]) -> Method:
        """Itself with the options of an earlier map where it leaves them open.

        Parameters
        ----------
        earlier
            The method of the earlier map.
        options
            With which it was used, by name.

        Raises
        ------
        InputError
            If the map is by another method, or with other options.
        """
        if not self.resumable:
            raise cannot_go_on("a map by sketch or monte_carlo", earlier)
        if self.name != earlier:
            raise cannot_go_on(f"method {self.name}", earlier)
        return self


def cannot_go_on(expected: str, received: str) -> InputError:
    """The error for an earlier map that does not fit."""
    return InputError(
        "cannot go on from this map",
        expected=expected,
        received=received,
        remedy="Repeat the command with the options of the earlier map, or start anew.",
    )


def as_before(option: str, asked: bool | None, options: Mapping[str, Any]) -> bool:
    """An option of the earlier map, which must not be asked for otherwise."""
    before = bool(options.get(option))
    if asked is not None and asked != before:
        raise cannot_go_on(f"{option} {asked}", str(before))
    return before
