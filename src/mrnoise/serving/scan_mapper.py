"""A scan that is mapped image by image while its lines arrive, to the bits of a map of the whole file."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.acquisition.noise_estimation import ESTIMATED
from mrnoise.errors import InputError
from mrnoise.estimators import Choice, Key, MonteCarlo, Plan
from mrnoise.files.text import counted
from mrnoise.io.scans.given_noise import GivenNoise
from mrnoise.io.scans.mrd import mrd_acquisition
from mrnoise.io.scans.mrd_file import MrdFile
from mrnoise.io.scans.mrd_header import Encoding
from mrnoise.io.scans.mrd_roles import AXES, IMAGE_COUNTERS, roles
from mrnoise.io.scans.mrd_sorting import numbered
from mrnoise.linearization import Images
from mrnoise.mapping.assembly import MappedImage, assemble
from mrnoise.mapping.coil_maps import with_chosen_maps
from mrnoise.mapping.memory import check_fits
from mrnoise.mapping.provenance import fingerprint
from mrnoise.mapping.run import map_image
from mrnoise.mapping.scan_image import ScanImage, scan_image
from mrnoise.reconstruction import RootSumOfSquares
from mrnoise.reconstruction.protocol import WholeKspace
from mrnoise.result.noise_map import NoiseMap
from mrnoise.result.preview import preview as smoothed
from mrnoise.result.provenance import Provenance
from mrnoise.sampling import Grid
from mrnoise.serving.arrivals import Arrivals, Place
from mrnoise.serving.parameters import Parameters
from mrnoise.serving.pictures import Picture, Status

# Replicas of a preview.
PREVIEW_SAMPLES = 8
# Voxels for each measured sample, and samples from which on they count.
MOST_EMPTY, SMALL_SCAN = 256, 4096

Send = Callable[[Picture], None]
Say = Callable[[str, str], None]
# Index along the axes of a map → head of a line of that image.
LineOf = Callable[[tuple[int, ...]], np.void]


@dataclass(eq=False)
class _Begun:
    """An image that is complete, before the whole scan is.

    ``acquisition`` is as it was read, ``images`` are those of it with coil maps; ``number`` says which of how many it
    is.
    """

    acquisition: Acquisition
    images: Images
    encoding: Encoding
    linearised: dict[int, ScanImage] = field(default_factory=dict)
    mapped: list[MappedImage] = field(default_factory=list)
    number: tuple[int, int] | None = None


@dataclass(eq=False)
class ScanMapper:
    """Maps the images of a scan. Its methods take long: they belong into another thread than that of a server.

    An image that is complete is mapped with the noise lines that came before it. At the end the whole scan is read, as
    a file is: what was mapped from the same numbers, and would be image of the same number in it, is kept, everything
    else is mapped anew. So what goes out at the end is the map of the file, whatever the order of the lines.

    Parameters
    ----------
    parameters
        What is asked for.
    given
        What is given on noise beside the lines.
    arrivals
        The lines.
    send, say
        Where pictures go, and sentences with DBG, WRN or ERR before them.
    """

    parameters: Parameters
    given: GivenNoise
    arrivals: Arrivals
    send: Send
    say: Say
    _begun: dict[Place, _Begun] = field(default_factory=dict)
    _choice: Choice | None = None
    _sent: dict[tuple[int, int], bytes] = field(default_factory=dict)
    _numbers: dict[bytes, int] = field(default_factory=dict)
    _said: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.reconstruction, self.request = self.parameters.made()

    # -- while lines arrive ----------------------------------------------------------------------------------

    def look(self, place: Place, file: MrdFile, number: tuple[int, int] | None) -> None:
        """Read an image that is complete, and send it with its preview.

        Parameters
        ----------
        place
            Its counters.
        file
            Its lines, with the noise lines so far.
        number
            Which of how many images it is, as far as that is known.
        """
        if self.reconstruction.joint or isinstance(self.reconstruction, WholeKspace):
            return  # may need all images at once
        with self._named(f"{'preview' if self.parameters.preview else 'first reading'} of {_words(place)}"):
            acquisition = self._read(file)
            encoding = file.encoding(roles(file).image)
            begun = _Begun(acquisition, self._images(acquisition), encoding, number=number)
            self._begun[place] = begun
            if not self.parameters.preview:
                return
            self._preview(place, begun, encoding)

    def map_early(self, place: Place) -> None:
        """Map an image for which `look` was called, where nothing tells that the whole scan will say otherwise."""
        begun = self._begun.get(place)
        if begun is None or begun.number is None:
            return
        number, count = begun.number
        if self._choice is None and number != 0:
            return
        try:
            begun.mapped = self._mapped(begun, number, count)
        except Exception:
            return  # at the end it is tried once more, and then said
        finally:
            begun.linearised.clear()
        if not self.parameters.integers:
            nm = assemble(begun.images, begun.mapped, Provenance())
            self._send_map(nm, lambda along: self.arrivals.head(place), begun.encoding)

    # -- at the end ------------------------------------------------------------------------------------------

    def finish(self) -> Iterator[None]:
        """Map what is not mapped yet, and send it; after each image control is given back."""
        file = self.arrivals.file()
        try:
            whole = self._read(file)
            images, mapped = self._whole(whole)
        except Exception as error:
            self.say("ERR", f"the scan as a whole cannot be mapped, its images are one by one: {_reason(error)}")
            yield from self._one_by_one()
            return
        encoding = file.encoding(roles(file).image)
        yield
        for number in range(math.prod(self._lengths(images))):
            if mapped[number] is not None:
                continue
            where = self._place_in(images, number)
            part = images.acquisition.at(**where)
            begun = _Begun(part, Images.of(self.reconstruction, part), encoding)
            words = ", ".join(f"{axis} {index}" for axis, index in where.items())
            with self._named(f"the noise map of {words or 'the image'}"):
                mapped[number] = self._mapped(begun, number, len(mapped))
            yield
        self._send_whole(images, mapped, file)

    def _whole(self, whole: Acquisition) -> tuple[Images, list[list[MappedImage] | None]]:
        """The images of the whole scan, and those that were mapped from the same numbers."""
        bare = Images.of(self.reconstruction, whole)
        lengths = self._lengths(bare)
        count = math.prod(lengths)
        known = {b.number[0]: b for b in self._begun.values() if b.number is not None and b.number[1] == count}
        same: dict[int, _Begun] = {}
        for number in range(count):
            begun = known.get(number)
            if begun is not None and begun.mapped:
                part = whole.at(**self._place_in(bare, number))
                if fingerprint(part) == fingerprint(begun.acquisition):
                    same[number] = begun
        if len(same) == count and _alike(whole):
            parts = [same[number].images.acquisition for number in range(count)]
            maps = [part.coil_maps for part in parts]
            if all(one is not None for one in maps) and whole.coil_maps is None:
                stacked = torch.stack([one.cpu() for one in maps if one is not None])
                whole = whole.replace(coil_maps=stacked.reshape(*lengths, *stacked.shape[1:]))
            images = self._images_of(whole)
        else:
            images = self._images(whole)
            same = {
                number: begun
                for number, begun in same.items()
                if fingerprint(images.acquisition.at(**self._place_in(images, number)))
                == fingerprint(begun.images.acquisition)
            }
            if 0 not in same:  # the method was chosen on another image
                same, self._choice = {}, None
        source = images.acquisition.noise_covariance.source
        self._say_once("WRN" if source.startswith(ESTIMATED) else "DBG", f"Ψ: {source}")
        for note in images.acquisition.notes:
            self._say_once("DBG", note)
        return images, [same[number].mapped if number in same else None for number in range(count)]

    def _send_whole(self, images: Images, mapped: list[list[MappedImage] | None], file: MrdFile) -> None:
        chosen = roles(file)
        heads = file.heads[chosen.image]
        encoding = file.encoding(chosen.image)
        axes = images.axes
        names = {AXES.get(name, name): name for name in heads["idx"].dtype.names}
        numbers = {axis: numbered(file, chosen.image, names[axis]) for axis in axes}

        def line_of(along: tuple[int, ...]) -> np.void:
            of_image = np.ones(len(heads), dtype=bool)
            for axis, number in zip(axes, along, strict=True):
                of_image &= numbers[axis] == number
            return np.void(heads[np.argmax(of_image)])

        made = [one for one in mapped if one is not None]
        if len(made) == len(mapped):
            nm = assemble(images, [image for part in made for image in part], Provenance())
            self._send_map(nm, line_of, encoding)
            return
        for number, part in enumerate(mapped):
            where = self._place_in(images, number)
            acquisition = images.acquisition.at(**where)
            own = Images.of(self.reconstruction, acquisition)

            def line_of_part(along: tuple[int, ...], own: Images = own, where: Mapping[str, int] = where) -> np.void:
                known = {**where, **dict(zip(own.axes, along, strict=True))}
                return line_of(tuple(known[axis] for axis in axes))

            if part is not None:
                self._send_map(assemble(own, part, Provenance()), line_of_part, encoding)
            else:
                self._send_image(own, line_of_part, encoding)

    def _one_by_one(self) -> Iterator[None]:
        """Each image as a scan of its own: those that can be mapped, of the others the image alone."""
        self._choice = None
        count = len(self.arrivals.images)
        for number, place in enumerate(self.arrivals.images):
            file = self.arrivals.file(place)

            def line_of(along: tuple[int, ...], place: Place = place) -> np.void:
                return self.arrivals.head(place)

            try:
                encoding = file.encoding(roles(file).image)
                begun = _Begun(acquisition := self._read(file), self._images(acquisition), encoding)
                mapped = self._mapped(begun, number, count)
                self._send_map(assemble(begun.images, mapped, Provenance()), line_of, encoding)
            except Exception as error:
                self.say("ERR", f"no noise map of {_words(place)}: {_reason(error)}")
                with self._named(f"the image of {_words(place)}"):
                    self._send_image(self._without_noise(place), line_of, file.encoding(roles(file).image))
            yield

    # -- one image -------------------------------------------------------------------------------------------

    def _read(self, file: MrdFile) -> Acquisition:
        _check_size(file)
        return mrd_acquisition(file, None, self.given)

    def _images(self, acquisition: Acquisition) -> Images:
        return self._images_of(with_chosen_maps(acquisition, self.parameters.coil_maps, self.reconstruction))

    def _images_of(self, acquisition: Acquisition) -> Images:
        device = self.parameters.device
        images = Images.of(self.reconstruction, acquisition if device == "cpu" else acquisition.to(device))
        check_fits(images)
        return images

    def _linearised(self, begun: _Begun, index: int) -> ScanImage:
        if index not in begun.linearised:
            begun.linearised.clear()
            begun.linearised[index] = scan_image(begun.images, index)
        return begun.linearised[index]

    def _mapped(self, begun: _Begun, number: int, count: int) -> list[MappedImage]:
        """The images of a part of the scan; by the method that is chosen on the typical one of the first."""
        images, seed, found = begun.images, self.parameters.seed, []
        first, total = number * images.count, count * images.count
        typical: ScanImage | None = None
        if self._choice is None:
            typical = self._linearised(begun, images.typical)
            key = Key(seed, first + images.typical)
            self._choice = self.request.method.choose(typical, self.request.plan(typical), key, n_images=total)
        for index in range(images.count):
            own = typical is not None and index == images.typical
            image = typical if own and typical is not None else self._linearised(begun, index)
            checked = self._choice.linearity if own else None
            key = Key(seed, first + index)
            found.append(map_image(image, self.request.plan(image), self._choice, key, checked=checked))
        return found

    def _preview(self, place: Place, begun: _Begun, encoding: Encoding) -> None:
        images, estimates = begun.images, []
        for index in range(images.count):
            image = self._linearised(begun, index)
            # Of its own: samples of a preview are none of the map.
            alone, plan = ScanImage(image.operator, image.reconstruction), Plan(PREVIEW_SAMPLES, region=image.region)
            # Replicas, which need no derivative: checking one takes as long as a few.
            estimate = MonteCarlo().estimate(alone, plan, Key(self.parameters.seed, index)).cpu()
            estimates.append(MappedImage(image.operator.value.cpu(), estimate))
        nm = smoothed(assemble(images, estimates, Provenance()))
        self._send_map(nm, lambda along: self.arrivals.head(place), encoding, "preview")

    def _without_noise(self, place: Place) -> Images:
        """The root sum of squares, which needs neither Ψ nor coil maps, of the samples that are numbers."""
        file = self.arrivals.file(place, finite=True)
        n_coils = int(file.heads["active_channels"][roles(file).image[0]])
        given = GivenNoise(covariance=torch.eye(n_coils, dtype=torch.complex64), source="none")
        return Images.of(RootSumOfSquares(), mrd_acquisition(file, None, given))

    # -- what is sent ----------------------------------------------------------------------------------------

    def _send_map(
        self,
        nm: NoiseMap,
        line_of: LineOf,
        encoding: Encoding,
        status: Status = "certified",
    ) -> None:
        """All quantities of a map, or of a preview."""
        quantities = {name: nm.quantity(name) for name in ("image", *self.parameters.sent)}
        samples = f", {counted(nm.n_samples, 'samples')}" if nm.n_samples else ""
        words = f"{self.reconstruction.title}, {nm.method}{samples}"
        self._send_quantities(quantities, words, nm.spatial_dims, line_of, encoding, status)

    def _send_image(self, images: Images, line_of: LineOf, encoding: Encoding) -> None:
        """The image alone, by the reconstruction, else as a root sum of squares."""
        try:
            values, title = images.reconstruct(), images.reconstruction.title
        except Exception:
            images = Images.of(RootSumOfSquares(), images.acquisition)
            values, title = images.reconstruct(), images.reconstruction.title
        image, words = {"image": values.abs()}, f"{title}, without a noise map"
        self._send_quantities(image, words, images.acquisition.spatial_dims, line_of, encoding, "without a map")

    def _send_quantities(
        self,
        quantities: Mapping[str, Tensor | None],
        words: str,
        spatial_dims: int,
        line_of: LineOf,
        encoding: Encoding,
        status: Status,
    ) -> None:
        for name, values in quantities.items():
            if values is None:
                self._say_once("WRN", f"{name}: this scan and reconstruction have none")
                continue
            array = values.detach().cpu().numpy()
            for along in np.ndindex(*array.shape[: array.ndim - spatial_dims]):
                line = line_of(along)
                # Numbered in the order of their arrival, alike in all series.
                index = self._numbers.setdefault(line["idx"].tobytes()[4:18], len(self._numbers) + 1)
                picture = Picture(name, array[along], line, encoding, index, words, status)
                self._send(picture)

    def _send(self, picture: Picture) -> None:
        """Send a picture unless it was sent with the same numbers."""
        content = hashlib.sha256(picture.stored.tobytes()).digest()
        before = self._sent.get(picture.key)
        if before == content:
            return
        if before is not None:
            self.say("WRN", f"{picture.quantity} {picture.index} was sent before all lines had come, and is sent again")
            picture = replace(picture, corrected=True)
        self._sent[picture.key] = content
        self.send(picture)

    def _say_once(self, level: str, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self.say(level, text)

    def _named(self, what: str) -> _Named:
        return _Named(what, self.say)

    # -- places ----------------------------------------------------------------------------------------------

    def _lengths(self, images: Images) -> tuple[int, ...]:
        sizes = dict(zip(images.acquisition.axes, images.acquisition.batch_shape, strict=True))
        return tuple(sizes[axis] for axis in images.apart)

    def _place_in(self, images: Images, number: int) -> dict[str, int]:
        lengths = self._lengths(images)
        at = np.unravel_index(number, lengths) if lengths else ()
        return {axis: int(i) for axis, i in zip(images.apart, at, strict=True)}


class _Named:
    """Within, what goes wrong is said, and the scan goes on."""

    def __init__(self, what: str, say: Say) -> None:
        self.what, self.say = what, say

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if error is None or not isinstance(error, Exception):
            return False
        self.say("ERR", f"{self.what} failed: {_reason(error)}")
        return True


def _check_size(file: MrdFile) -> None:
    """Raise `InputError` where a header asks for far more than its lines would ever fill."""
    lines = roles(file).image
    size = file.encoding(lines).encodedSpace.matrixSize
    images = math.prod(len(np.unique(file.heads["idx"][name][lines])) for name in IMAGE_COUNTERS)
    voxels = size.x * size.y * size.z * images
    samples = int(file.heads["number_of_samples"][lines].astype(np.int64).sum())
    if voxels > MOST_EMPTY * max(samples, SMALL_SCAN):
        raise InputError(
            "header and counters of the lines ask for far more than was measured",
            expected=f"at most {MOST_EMPTY} voxels for each of {samples} samples",
            received=f"{images} images of {size.x} × {size.y} × {size.z} voxels",
            remedy="Correct the header.",
        )


def _alike(whole: Acquisition) -> bool:
    """Whether all images were sampled alike, so that coil maps of each alone are those of all."""
    if isinstance(whole.sampling, Grid) and whole.sampling.mask.ndim > whole.spatial_dims:
        return False
    if whole.calibration is None:
        return True
    measured = (whole.calibration != 0).any(whole.coil_axis)
    measured = measured.reshape(-1, *measured.shape[-whole.spatial_dims :])
    return bool((measured == measured[:1]).all())


def _words(place: Place) -> str:
    repetition, _, _, contrast, number = place
    more = f", contrast {contrast}" if contrast else ""
    return f"slice {number}, repetition {repetition}{more}"


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())[:600]
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"
