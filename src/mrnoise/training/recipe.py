"""Recipes: everything that training a network depends on, in one YAML file."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mrnoise.errors import InputError
from mrnoise.files.opening import reading
from mrnoise.training.paradigms import SSDU, VORTEX, Noise2Recon, Supervised


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


# A recipe names files and folders: nothing that climbs out of the output, hides, or is too long.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+-]*$", max_length=64)]


class Architecture(_Strict):
    """A class of `mrnoise.networks` and its settings."""

    architecture: str
    settings: dict[str, int] = {}


class Data(_Strict):
    """Simulated scans, see `mrnoise.training.ScanSettings`; ``file`` is the anatomy inside the data folder."""

    file: str
    matrix: tuple[tuple[int, int], ...] = ((128, 128), (144, 128), (128, 160))
    coils: tuple[int, int] = (8, 16)
    accelerations: tuple[int, ...] = (4, 8, 12)
    patterns: tuple[str, ...] = ("equispaced", "random_1d", "random_2d", "poisson")
    snr: tuple[float, float] = (10.0, 200.0)


class Optimization(_Strict):
    """Adam on one scan at a time or a few, with a schedule and an exponential moving average of the weights."""

    steps: int = Field(gt=0)
    batch: int = Field(1, gt=0)
    learning_rate: float = Field(1e-3, gt=0)
    schedule: Literal["cosine", "one-cycle"] = "one-cycle"
    average: float = Field(0.99, ge=0, lt=1)
    clip: float = Field(1.0, gt=0)
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    validate_every: int = Field(500, gt=0)


Paradigm = Annotated[Supervised | SSDU | Noise2Recon | VORTEX, Field(discriminator="paradigm")]


class Recipe(_Strict):
    """How to train one network.

    Parameters
    ----------
    name
        Of the files that training writes: letters, digits and ``_ . + -``.
    network, paradigm, data, optimization
        What is trained, by which loss, on which scans, how.
    initial
        Name of another recipe whose weights training starts from.
    seed
        Of the initial weights, the scans and every random choice.

    Examples
    --------
    >>> recipe = read_recipe("unet-brain").model_copy(update={"name": "my-unet", "seed": 3})
    >>> recipe.network.architecture, recipe.paradigm.paradigm, recipe.optimization.schedule
    ('unet', 'supervised', 'one-cycle')
    """

    name: Name
    network: Architecture
    paradigm: Paradigm
    data: Data
    optimization: Optimization
    initial: Name | None = None
    seed: int = Field(0, ge=0, lt=2**32)


def recipes() -> list[str]:
    """Names of the recipes that come with mrnoise.

    Examples
    --------
    >>> "unet-brain" in recipes(), len(recipes())
    (True, 12)
    """
    return sorted(path.name.removesuffix(".yaml") for path in _folder().iterdir() if path.name.endswith(".yaml"))


def read_recipe(recipe: str | Path, size: str = "cpu") -> Recipe:
    """A recipe by name or file.

    The file holds the fields of `Recipe`; under ``sizes`` it holds the changes of each size, merged into them.

    Parameters
    ----------
    recipe
        One of `recipes`, or the path of a YAML file.
    size
        A name under ``sizes``.

    Returns
    -------
    Recipe
        Checked.

    Raises
    ------
    InputError
        If there is no such recipe or size, or the file is not a recipe.

    Examples
    --------
    >>> recipe = read_recipe("modl-knee")
    >>> recipe.network.architecture, recipe.data.file, recipe.data.accelerations
    ('modl', 'anatomy_knee_mese.npz', (4, 8, 12))
    """
    path = _folder() / f"{recipe}.yaml" if str(recipe) in recipes() else Path(recipe)
    expected = f"a YAML file, or one of {', '.join(recipes())}"
    remedy = "Copy one of the recipes of mrnoise and change it."
    with reading(path, expected, remedy, problem="cannot read the recipe"):
        if not os.path.isfile(path):
            raise FileNotFoundError("no such file")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    sizes = content.pop("sizes", {"cpu": {}}) if isinstance(content, dict) else {}
    if size not in sizes:
        raise InputError(
            "the recipe has no such size",
            expected=", ".join(sizes) or "a mapping with sizes",
            received=size,
            remedy="Choose one of these with --size.",
        )
    try:
        return Recipe.model_validate(_merged(content, sizes[size] or {}))
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            "the recipe is not valid",
            expected=f"at {'.'.join(map(str, first['loc']))}: {first['msg']}",
            received=repr(first["input"]),
            remedy=f"Correct {recipe}.",
        ) from error


def _folder() -> Any:
    return files("mrnoise.training") / "recipes"


def _merged(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in change.items():
        deeper = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _merged(base[key], value) if deeper else value
    return merged
