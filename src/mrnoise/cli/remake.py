"""From a map back to its scan and reconstruction, as far as both are at hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrnoise.cli.recipe import FILES, Recipe
from mrnoise.review.region import Missing, Source

if TYPE_CHECKING:
    from mrnoise.result.noise_map import NoiseMap


def source_of(
    noise_map: NoiseMap, path: Path, scan: Path | None, reconstructions: Sequence[str]
) -> Iterator[str | Source]:
    """Scan and reconstruction of a map, after each step in words.

    Both are found by what `mrnoise map` left in the map. What a map names is looked for, never run: commands, modules
    and network files only where they are among ``reconstructions``, which the user gave.

    Raises
    ------
    Missing
        If one of the two is not at hand, or another than that of the map.
    InputError
        If the scan cannot be read.
    """
    from mrnoise.mapping.provenance import fingerprint
    from mrnoise.reconstruction.protocol import as_reconstruction
    from mrnoise.report.tables import reconstruction_in_words

    recipe = recipe_of(noise_map, path, scan, reconstructions)
    yield "making the reconstruction ready"
    method = recipe.method()
    record = noise_map.provenance
    if (title := as_reconstruction(method).title) != record.reconstruction:
        raise Missing(f"The map was made by {record.reconstruction}; what is at hand is {title}.")
    yield f"reading {recipe.scan.name}, its noise and coil maps"
    acquisition = recipe.acquisition(method)
    if fingerprint(acquisition) != (record.input or {}).get("sha256"):
        raise Missing(
            f"{recipe.scan.name} is not the scan of this map, or is read in another way: data, sampling, Ψ or coil "
            "maps differ."
        )
    yield Source(method, acquisition, f"{reconstruction_in_words(title)} of {recipe.scan.name}")


def recipe_of(noise_map: NoiseMap, path: Path, scan: Path | None, reconstructions: Sequence[str]) -> Recipe:
    """How the map was made, with its files where they lie now.

    Raises
    ------
    Missing
        If the map does not say it, or a file is not found.
    """
    command = noise_map.provenance.command
    if command is None:
        if scan is None or scan.is_dir() or not reconstructions:
            raise Missing(
                "The map does not say how it was made: not by mrnoise map, or by an older version. Start mrnoise "
                "review with --scan FILE and -r RECONSTRUCTION, or map again."
            )
        return Recipe(scan=scan, reconstruction=reconstructions[0])
    try:
        if not isinstance(command, Mapping):
            raise TypeError(f"a {type(command).__name__}")
        recipe = Recipe.of(command)
    except (KeyError, TypeError) as error:
        raise Missing(f"What the map says of how it was made cannot be read ({error}). Map again.") from error
    if recipe.tsnr_over is not None:
        raise Missing(
            "The map is one of temporal SNR, whose σ is that over a series; mrnoise map --mean-over makes one of "
            "the mean."
        )
    _check_trusted(recipe.reconstruction, reconstructions)
    named = {name: getattr(recipe, name) for name in FILES}
    found: dict[str, Any] = {name: _found(name, file, path, scan) for name, file in named.items() if file is not None}
    if Path(recipe.weights).suffix:
        found["weights"] = str(_found("weights", Path(recipe.weights), path, scan))
    return dataclasses.replace(recipe, **found)


def _check_trusted(name: str, reconstructions: Sequence[str]) -> None:
    """Whoever wrote the map wrote the name: it may be anything that this machine would then run."""
    from mrnoise.catalogue import reconstruction_names

    if name not in (*reconstruction_names(), *reconstructions) and not name.startswith("sigpy:"):
        raise Missing(
            f"The map was made by {name}, which a map may not have run by itself. If you know it, start mrnoise review "
            f"with -r '{name}'."
        )


def _found(name: str, named: Path, path: Path, scan: Path | None) -> Path:
    """A file of the recipe: what was given, or where the map says, or beside the map or its folder."""
    places = [named, path.parent / named.name, path.parent.parent / named.name]
    if scan is not None:
        beside = scan if scan.is_dir() else scan.parent
        places = [scan] if name == "scan" and not scan.is_dir() else [beside / named.name, *places]
    for place in places:
        if place.exists():
            return place
    what = (
        "The scan of this map" if name == "scan" else f"A file that this map was made with ({name.replace('_', ' ')})"
    )
    raise Missing(
        f"{what}, {named.name}, is not at hand: not where the map says, nor beside the map. Start mrnoise review with "
        "--scan, a file or the folder where scans lie."
    )
