"""From scan and reconstruction to noise map: the one function most people call."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.errors import InputError
from mrnoise.estimators import Choice, Estimate, Key, Linearity, Method, Plan, Progress, linearity
from mrnoise.estimators import method as method_named
from mrnoise.estimators.choice.linearity import TOLERANCE
from mrnoise.linearization import Images
from mrnoise.mapping.assembly import MappedImage, assemble
from mrnoise.mapping.memory import check_fits
from mrnoise.mapping.provenance import of_scan
from mrnoise.mapping.resume import choice_of, images_of
from mrnoise.mapping.scan_image import ScanImage, scan_image
from mrnoise.progress import MapProgress
from mrnoise.reconstruction.protocol import KspaceToImage, Reconstruction
from mrnoise.result.noise_map import NoiseMap
from mrnoise.result.provenance import Provenance

# Where neither a count nor a target is given.
DEFAULT_TARGET_ERROR = 0.03
# Pause between two checkpoints, and how many times as long as one takes it is at least.
CHECKPOINT_SECONDS, CHECKPOINT_SHARE = 30.0, 20.0


def noise_map(
    reconstruction: Reconstruction | KspaceToImage,
    acquisition: Acquisition,
    *,
    method: str | Method = "auto",
    n_samples: int | None = None,
    target_error: float | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    progress: MapProgress | None = None,
    resume: NoiseMap | None = None,
    checkpoint: Callable[[NoiseMap], object] | None = None,
) -> NoiseMap:
    """Voxel-wise noise of a reconstructed scan.

    cov(x) = J Ψ Jᴴ with J the derivative of the whole map from k-space to image, at the measured data.

    Parameters
    ----------
    reconstruction
        A `Reconstruction`, bound to each of the independent images of the scan in turn, or any callable kspace → image,
        which gets the k-space of the acquisition with all its leading axes.
    acquisition
        The scan.
    method
        A method object of `mrnoise.estimators`, with its options, or its name. ``"sketch"``: mean |Jv|² over random
        probes. ``"lattice"``: image-space probing on alias sets, for sampling that is regular or varies along one axis;
        without error where the reconstruction is linear. ``"coloured"``: the same on a sublattice of voxels whose noise
        is not correlated, found from a pilot. ``"probe"``: of all voxels at once. ``"exact"``: row by row.
        ``"spots"``: exact at some voxels and interpolated inside the object, NaN outside, where σ is smooth.
        ``"closed_form"``: of SENSE. ``"monte_carlo"``: replicas, the nonlinear truth at the noise level of the scan.
        ``"nonlinear"``: the same with first-order noise as control variate, and the noise-induced bias. ``"auto"``: the
        cheapest that may be believed, `mrnoise.estimators.Auto`; ``provenance.why`` has the figures.
        A first-order map is checked at the noise level of the scan: `NoiseMap.linearity`.
    n_samples
        Number of probes or replicas an image; with ``target_error``, the most.
    target_error
        Stop when the relative error of σ inside the object (root mean square) is certified to be below this with
        95 % probability, see `mrnoise.estimators.RegionError`; 0.03 where neither is given.
    seed
        Every probe has its own generator, seeded by (seed, image, probe), see `mrnoise.estimators.Key`.
    batch_size
        Probes evaluated together; ``None``: from free memory. Does not change the result.
    progress
        Called after each batch.
    resume
        An earlier map of the same scan, reconstruction, method and seed, e.g. an interrupted one: its probes are not
        repeated, and the result is that of one uninterrupted run, after an interruption to the last bit. With a target
        it may take more of them, since how voxels vary together is measured anew. Going on to more samples than were
        asked for fits control variates anew. Images that are as good as asked for stay as they are, by any method; one
        that is not goes on by ``sketch`` and ``monte_carlo`` and is begun anew by others.
    checkpoint
        Called with the map so far after an image, now and then: what a run that may be killed should save.

    Returns
    -------
    NoiseMap
        After Ctrl-C: the estimate so far, ``interrupted`` is true, images not reached NaN.

    Raises
    ------
    InputError
        If the reconstruction cannot be linearised by the method asked for, an option is invalid, or the map of a
        volume will not fit into memory.

    Examples
    --------
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.sampling import equispaced
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((16, 12), 4, mask=equispaced((16, 12), 2))
    >>> nm = noise_map(CgSense(1e-3), scan, n_samples=50, seed=1)
    >>> nm.method, tuple(nm.std.shape)
    ('lattice', (16, 12))
    """
    started = time.perf_counter()
    images = Images.of(reconstruction, acquisition)
    request = Request.of(method, n_samples, target_error, batch_size)
    check_fits(images)
    mapped: list[MappedImage] = []

    def so_far() -> NoiseMap:
        return assemble(images, mapped, _provenance(images, request, mapped, seed, started, resume))

    saved, pause = started, CHECKPOINT_SECONDS
    try:
        for one in map_images(images, request, seed=seed, progress=progress, resume=resume):
            mapped.append(one)
            now = time.perf_counter()
            if checkpoint is not None and len(mapped) < images.count and now - saved > pause:
                checkpoint(so_far())
                saved = time.perf_counter()
                pause = max(CHECKPOINT_SECONDS, CHECKPOINT_SHARE * (saved - now))
    except KeyboardInterrupt:
        # Whole images are kept; before the first there is nothing to return.
        if not mapped:
            raise
    return so_far()


def choose(
    reconstruction: Reconstruction | KspaceToImage,
    acquisition: Acquisition,
    *,
    n_samples: int | None = None,
    target_error: float | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> Choice:
    """What `noise_map` would do by ``"auto"``, in words and figures, found on the first image or middle plane.

    ``noise_map(reconstruction, other, method=choice.method)`` does the same on the next slice or scan without a new
    pilot.

    Parameters
    ----------
    reconstruction, acquisition, n_samples, target_error, seed, batch_size
        As for `noise_map`.

    Returns
    -------
    Choice
        The method, why, and what each way was predicted to cost.

    Raises
    ------
    InputError
        As `noise_map`.

    Examples
    --------
    >>> from mrnoise.reconstruction import Sense
    >>> from mrnoise.sampling import equispaced
    >>> from mrnoise.simulation import simulate
    >>> choice = choose(Sense(), simulate((16, 12), 4, mask=equispaced((16, 12), 2)), target_error=0.02)
    >>> choice.method
    Probe(colours=AliasSets(), draws=1)
    """
    images = Images.of(reconstruction, acquisition)
    request = Request.of("auto", n_samples, target_error, batch_size)
    image = scan_image(images, images.typical)
    return request.method.choose(image, request.plan(image), Key(seed, images.typical), n_images=images.count)


@dataclass(frozen=True)
class Request:
    """What is asked for: by which method, and when to stop.

    Parameters
    ----------
    method, n_samples, target_error, batch_size
        As for `noise_map`.
    """

    method: Method
    n_samples: int | None
    target_error: float | None
    batch_size: int | None

    @classmethod
    def of(
        cls, method: str | Method, n_samples: int | None, target_error: float | None, batch_size: int | None
    ) -> Request:
        """Checked, with the usual target where nothing is said."""
        chosen = method_named(method)
        if not (n_samples is None and target_error is None):
            if chosen.exhaustive:
                raise InputError(
                    f"{chosen.name} takes no stopping rule",
                    expected="neither n_samples nor target_error",
                    received=f"n_samples={n_samples}, target_error={target_error}",
                    remedy="Leave both out; the result has no sampling error.",
                )
        else:
            target_error = DEFAULT_TARGET_ERROR
        Plan(n_samples, target_error, batch_size=batch_size)  # checks the numbers before there is an image
        return cls(chosen, n_samples, target_error, batch_size)

    def plan(self, image: ScanImage, progress: Progress | None = None) -> Plan:
        """For one image."""
        return Plan(self.n_samples, self.target_error, image.region, self.batch_size, progress)


def map_images(
    images: Images,
    request: Request,
    *,
    seed: int = 0,
    progress: MapProgress | None = None,
    resume: NoiseMap | None = None,
) -> Iterator[MappedImage]:
    """The images of a scan with their noise, one after the other; the last one may be interrupted.

    Parameters
    ----------
    images
        Of which reconstruction of which scan.
    request
        What is asked for. The choice that is made on the typical image (`Images.typical`) serves for all.
    seed, progress, resume
        As for `noise_map`.
    """
    kept: list[MappedImage | None] = [None] * images.count
    begun: list[Estimate | None] = [None] * images.count
    choice: Choice | None = None
    if resume is not None:
        choice = choice_of(resume, request.method)
        target = None if request.method.exhaustive else request.target_error
        kept, begun = images_of(resume, images, seed, request.n_samples, target)
    typical: ScanImage | None = None
    if choice is None and not all(kept):
        typical = scan_image(images, images.typical)
        choice = request.method.choose(typical, request.plan(typical), Key(seed, images.typical), n_images=images.count)
    for index in range(images.count):
        one = kept[index]
        if one is not None:
            yield one
            continue
        assert choice is not None
        image = scan_image(images, index) if typical is None or index != images.typical else typical
        plan = request.plan(image, _within(progress, index, images.count))
        checked = choice.linearity if image is typical else None
        one = map_image(image, plan, choice, Key(seed, index), begun=begun[index], checked=checked)
        yield one
        if one.estimate.interrupted:
            return


def map_image(
    image: ScanImage,
    plan: Plan,
    choice: Choice,
    key: Key,
    *,
    begun: Estimate | None = None,
    checked: Linearity | None = None,
) -> MappedImage:
    """One image with its noise.

    Parameters
    ----------
    image
        As `scan_image` makes it.
    plan
        When to stop.
    choice
        The method.
    key
        Of its probes, (seed, number of the image).
    begun
        An estimate to go on from.
    checked
        Whether first order holds, where that is known.
    """
    operator = image.operator
    image.require(*choice.method.needs)
    if checked is None and choice.method.first_order:
        checked = linearity(
            operator,
            region=plan.region,
            key=key,
            batch_size=plan.batch_size,
            tolerance=choice.tolerance or TOLERANCE,
        )
    estimate = choice.method.estimate(image, plan, key, begun)
    operator.check_unchanged()
    estimate = image.known.kept_in(estimate.cpu())
    return MappedImage(operator.value.cpu(), estimate, checked, choice, operator.preflight)


def _provenance(
    images: Images,
    request: Request,
    mapped: list[MappedImage],
    seed: int,
    started: float,
    earlier: NoiseMap | None,
) -> Provenance:
    """How a map was made."""
    made = next((one for one in mapped if one.choice is not None), None)
    if made is None:  # nothing was left to do
        assert earlier is not None
        return earlier.provenance
    assert made.choice is not None and made.preflight is not None
    method = made.choice.method
    return replace(
        of_scan(images.acquisition, images.reconstruction.estimates_coil_maps),
        reconstruction=images.reconstruction.title,
        why=made.choice.why,
        noise_model="first order in the noise" if method.first_order else "replicas at the noise level of the scan",
        seed=seed,
        distribution=method.distribution_name,
        control_variate=bool(getattr(method, "control_variate", False)),
        half_precision=bool(getattr(method, "half_precision", False)),
        target_error=None if method.exhaustive else request.target_error,
        preflight=made.preflight.describe(),
        seconds=round(time.perf_counter() - started, 3),
    )


def _within(progress: MapProgress | None, index: int, count: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, total, error: progress(index, count, done, total, error)
