"""A client that replays a scan line by line, for tests and for trying a server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from mrnoise.acquisition.geometry import Geometry
from mrnoise.acquisition.image_grid import ImageGrid
from mrnoise.errors import InputError
from mrnoise.files.atomic import all_or_nothing, replacing
from mrnoise.files.record import to_json
from mrnoise.io.maps.nifti import finite_float32, nifti_image
from mrnoise.io.scans.mrd_geometry import LPS_TO_RAS
from mrnoise.io.scans.mrd_stream import Line
from mrnoise.serving.messages import (
    CLOSE,
    CLOSING,
    CONFIG_TEXT,
    HEADER,
    IMAGE,
    TEXT,
    ReceivedImage,
    read_message,
    with_config_name,
    with_line,
    with_text,
)

# What a configuration is called; a server may run several.
CONFIG_NAME = "mrnoise"
# Axes of a series beside the slices, by the counters of an image, slowest first.
OTHER_AXES = {"set": "set", "phase": "phase", "contrast": "echo", "repetition": "frame", "average": "average"}


def send(
    header: bytes,
    lines: Iterable[Line],
    host: str,
    port: int,
    *,
    config: str = "",
    say: Callable[[str], None] = lambda text: None,
) -> list[ReceivedImage]:
    """Send a scan, and return the images that come back.

    Parameters
    ----------
    header, lines
        As `mrnoise.io.scans.mrd_stream.stored_lines` reads them.
    host, port
        Of the server.
    config
        Parameters as JSON.
    say
        Told the text messages of the server.

    Raises
    ------
    InputError
        If there is no server, or what it sends is not of the protocol.
    """
    return asyncio.run(_exchange(header, lines, host, port, config, say))


async def _exchange(
    header: bytes, lines: Iterable[Line], host: str, port: int, config: str, say: Callable[[str], None]
) -> list[ReceivedImage]:
    try:
        reader, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        raise InputError(
            "there is no server",
            expected="a server of the MRD streaming protocol, such as mrnoise serve",
            received=f"{host}:{port} ({error.strerror or error})",
            remedy="Start it, or check --to.",
        ) from error
    found: list[ReceivedImage] = []

    async def listen() -> None:
        while True:
            message = await read_message(reader)
            if message is None:
                raise ConnectionError("it ended without a close message")
            if message.number == CLOSE:
                return
            if message.number == TEXT:
                say(message.text)
            elif message.number == IMAGE and message.image is not None:
                found.append(message.image)

    async def speak() -> None:
        writer.write(with_config_name(CONFIG_NAME))
        if config:
            writer.write(with_text(CONFIG_TEXT, config))
        writer.write(with_text(HEADER, header.decode("utf-8", errors="replace")))
        for line in lines:
            writer.write(with_line(line))
            await writer.drain()
        writer.write(CLOSING)
        await writer.drain()

    listening = asyncio.create_task(listen())
    try:
        try:
            await speak()
        except ConnectionError:
            say("the server closed the connection before all lines were sent")
        await listening
    except (ConnectionError, asyncio.IncompleteReadError) as error:
        raise InputError(
            "the connection to the server was lost",
            expected="images and a close message",
            received=f"{len(found)} images ({error})",
            remedy="See what the server says.",
        ) from error
    finally:
        listening.cancel()
        writer.close()
    return found


def write_series(images: Iterable[ReceivedImage], folder: Path) -> list[Path]:
    """Write each series as a NIfTI file with a JSON file of its attributes beside it; an image sent again replaces.

    Axes are (x, y, z), z the slices, then repetitions, then the other counters, named in the JSON file. Values are in
    their unit, slope and intercept applied.

    Returns
    -------
    list of Path
        The files.
    """
    series: dict[int, dict[tuple[int, ...], ReceivedImage]] = {}
    for image in images:
        at = tuple(int(image.head[name]) for name in (*OTHER_AXES, "slice"))
        series.setdefault(int(image.head["image_series_index"]), {})[at] = image
    names: dict[int, str] = {}
    for number, those in series.items():
        first = next(iter(those.values()))
        quantity = re.sub(r"\W", "", first.attribute("mrnoise_quantity")) or f"series_{number}"
        name = quantity + ("_preview" if first.attribute("mrnoise_status") == "preview" else "")
        names[number] = name if name not in names.values() else f"{name}_{number}"
    with all_or_nothing():
        return [path for number, those in series.items() for path in _write(those, folder / names[number])]


def _write(those: dict[tuple[int, ...], ReceivedImage], stem: Path) -> list[Path]:
    first = next(iter(those.values()))
    keys = np.array(list(those))
    levels = [np.unique(column) for column in keys.T]
    *others, slices = (len(level) for level in levels)
    shape = first.rescaled.shape[1:]  # (z, y, x)
    if any(image.rescaled.shape[1:] != shape for image in those.values()):
        raise InputError(
            f"the images of {stem.name} differ in their matrix",
            expected=f"{shape} for all images of a series",
            received=", ".join(sorted({str(image.rescaled.shape[1:]) for image in those.values()})),
            remedy="See what the server says.",
        )
    values = np.full((*others, slices, *shape), np.nan, np.float32)
    ordered = sorted(those.values(), key=_along_normal)
    rank: dict[int, int] = {}
    for image in ordered:
        rank.setdefault(int(image.head["slice"]), len(rank))
    for key, image in those.items():
        at = [int(np.searchsorted(level, n)) for level, n in zip(levels[:-1], key[:-1], strict=True)]
        values[(*at, rank[key[-1]])] = finite_float32(image.rescaled[0])
    dims = 3 if shape[0] > 1 else 2
    axes = [axis for axis, n in zip((*OTHER_AXES.values(), "slice"), (*others, slices), strict=True) if n > 1]
    array = values.reshape(*[n for n in (*others, slices) if n > 1], *shape[3 - dims :])
    grid = ImageGrid(array.shape, dims, tuple(axes), _geometry(ordered, shape))
    image_path, json_path = stem.with_name(stem.name + ".nii.gz"), stem.with_name(stem.name + ".json")
    with replacing(image_path, json_path) as partial:
        nifti_image(grid.volumes(array), grid, first.attribute("ImageComments")).to_filename(partial[0])
        record = {
            "axes": ["x", "y", "z", *reversed(grid.other_axes)],
            **{name: found[0] if len(found) == 1 else found for name, found in first.meta.items()},
        }
        partial[1].write_text(to_json(record, indent=2) + "\n", encoding="utf-8")
    return [image_path, json_path]


def _along_normal(image: ReceivedImage) -> float:
    return float(image.head["position"] @ image.head["slice_dir"])


def _geometry(ordered: list[ReceivedImage], shape: tuple[int, ...]) -> Geometry:
    """From the heads of images in the order of their slices; slices that are not evenly spaced have no place."""
    head = ordered[0].head
    n = np.array(shape[::-1])
    size = head["field_of_view"].astype(float) / n
    if not (size > 0).all():
        return Geometry(measured=False)
    axes = np.stack([head[name].astype(float) for name in ("read_dir", "phase_dir", "slice_dir")], axis=1)
    steps = np.diff(np.unique(np.array([_along_normal(image) for image in ordered])))
    if len(steps) and shape[0] == 1:
        if np.ptp(steps) > 0.01 * steps.mean():
            return Geometry((float(size[2]), float(size[1]), float(size[0])))
        size[2] = steps.mean()
    voxel = (float(size[2]), float(size[1]), float(size[0]))
    if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-2):
        return Geometry(voxel)
    affine = np.eye(4)
    affine[:3, :3] = LPS_TO_RAS[:, None] * axes * size
    affine[:3, 3] = LPS_TO_RAS * head["position"].astype(float) - affine[:3, :3] @ (n // 2)
    return Geometry(voxel, affine)
