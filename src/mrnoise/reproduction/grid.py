"""What is evaluated: the cells of every table, at two sizes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mrnoise.errors import InputError
from mrnoise.networks.weights import ANATOMIES, SHIPPED
from mrnoise.reproduction.scans import anatomy_file
from mrnoise.reproduction.shards import Cell, files_of

ALPHAS = (1, 5, 10, 20, 50, 100, 150, 200)
ACCELERATIONS = (4, 8, 12)
PATTERNS = ("poisson", "random_2d", "random_1d", "equispaced")
DISTRIBUTIONS = ("phase", "rademacher", "gaussian", "real")
PICO_SAMPLES, PICO_MATRIX, PICO_COILS = (10, 20, 40, 80, 200), (320, 256), 8
RANKED_ALPHAS = (1, 20)
# Of the maps, of what they are compared with, and of the shards to come.
SKETCH_SEED, REFERENCE_SEED, AUTO_SEED = 1, 2, 3

# Seconds on one core: of a product for a scan of 40×36 with 6 coils, and of what every map begins with.
SECONDS = {"unet": 0.018, "varnet": 0.057, "modl": 0.092, "ssdu": 0.015, "n2r": 0.015, "vortex": 0.015}
SECONDS |= {"cg-sense": 0.003, "sense": 0.0008}
MAP_SECONDS = 2.0
Spec = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """How large the evaluation is.

    Parameters
    ----------
    matrix, coils
        Of the scans of the protocol, coils by anatomy.
    methods
        Samples of sketch, replicas and pairs of `nonlinear` of table 1.
    sweep
        Samples of sketch and replicas of the other tables.
    networks
        Of the sweeps: the most nonlinear one and one that is unrolled.
    cost
        Numbers of samples of the error against cost, and of its reference.
    small
        Matrix on which an exact map is affordable.
    regular
        Matrix of SENSE.
    measured
        Matrix of the measured scan, and of the simulated ones whose coil maps are estimated from their calibration.
    batch
        Probes evaluated together, always the same so that rounding is.
    """

    matrix: tuple[int, int]
    coils: Mapping[str, int]
    methods: tuple[int, int, int]
    sweep: tuple[int, int]
    networks: tuple[str, ...]
    cost: tuple[tuple[int, ...], int]
    small: tuple[int, int]
    regular: tuple[int, int]
    measured: tuple[int, int]
    batch: int


SIZES: Mapping[str, Size] = MappingProxyType(
    {
        "quick": Size(
            matrix=(32, 28),
            coils={"brain": 6, "knee": 6},
            methods=(1000, 1500, 100),
            sweep=(200, 300),
            networks=("unet", "n2r"),
            cost=((16, 64, 512), 2000),
            small=(24, 20),
            regular=(64, 56),
            measured=(48, 44),
            batch=32,
        ),
        "full": Size(
            matrix=(256, 256),
            coils={"brain": 16, "knee": 8},
            methods=(1000, 3000, 300),
            sweep=(1000, 3000),
            networks=("unet", "varnet", "n2r"),
            cost=((16, 64, 256, 1024, 4096), 20_000),
            small=(24, 20),
            regular=(256, 224),
            measured=(128, 128),
            batch=16,
        ),
    }
)


def cells(size: str, only: Sequence[str] = ()) -> list[Cell]:
    """The grid.

    Parameters
    ----------
    size
        One of `SIZES`.
    only
        Names of tables; all if empty.

    Returns
    -------
    list of Cell
        In the order of the tables.

    Raises
    ------
    InputError
        If there is no such table.

    Examples
    --------
    >>> [cell.key for cell in cells("quick", ["g_factor"])]
    ['equispaced-R2', 'equispaced-R4', 'caipi-R4']
    """
    unknown = [name for name in only if name not in GRID]
    if unknown:
        raise InputError(
            "no such table",
            expected=f"one of {', '.join(GRID)}",
            received=", ".join(unknown),
            remedy="Leave --only out for all of them.",
        )
    return [cell for name, make in GRID.items() if not only or name in only for cell in make(SIZES[size])]


def possible(cells: Sequence[Cell], data: Path | None) -> list[Cell]:
    """Those cells whose measured files are in the data folder.

    Without a folder the generated phantom takes the place of the anatomy, and nothing that of measured files.

    Parameters
    ----------
    cells
        Of `cells`.
    data
        Folder with anatomies and scans; ``None``: there is none.

    Returns
    -------
    list of Cell
        In the same order.

    Raises
    ------
    InputError
        If there is a folder, and it lacks an anatomy.

    Examples
    --------
    >>> every = cells("quick")
    >>> sorted({cell.table for cell in every} - {cell.table for cell in possible(every, None)})  # needs a measured scan
    ['measured']
    """

    def there(file: str) -> bool:
        return data is not None and os.path.isfile(data / file)

    anatomies = {files_of(cell).get("anatomy") for cell in cells} - {None}
    missing = sorted(file for file in anatomies if data is not None and file is not None and not there(file))
    if missing:
        raise InputError(
            "the data folder lacks the anatomy",
            expected=" and ".join(anatomy_file(anatomy) for anatomy in ANATOMIES),
            received=f"{data} without {', '.join(missing)}",
            remedy="Leave --data out for the generated phantom.",
        )
    return [cell for cell in cells if all(there(file) for name, file in files_of(cell).items() if name != "anatomy")]


# -- tables ----------------------------------------------------------------------------------------------------


def _methods(size: Size) -> Iterator[Cell]:
    s, n, pairs = size.methods
    for anatomy in ANATOMIES:
        for network in SHIPPED:
            maps: dict[str, Spec] = {"sketch": _sketch(s)}
            if network == "unet":
                maps["nonlinear"] = {"method": "nonlinear", "n_samples": pairs, "seed": AUTO_SEED}
            yield _agreement("methods", f"{network}-{anatomy}", size, anatomy, network, maps, _replicas(n), shown=True)


def _noise_level(size: Size) -> Iterator[Cell]:
    s, n = size.sweep
    for network in size.networks:
        for alpha in ALPHAS:
            maps = {"sketch": _sketch(s), "auto": {"method": "auto", "n_samples": s, "seed": AUTO_SEED}}
            key = f"{network}-alpha{alpha}"
            yield _agreement("noise_level", key, size, "brain", network, maps, _replicas(n), alpha=alpha)


def _acceleration(size: Size) -> Iterator[Cell]:
    s, n = size.sweep
    for network in size.networks:
        for r in ACCELERATIONS:
            maps = {"sketch": _sketch(s)}
            yield _agreement(
                "acceleration", f"{network}-R{r}", size, "knee", network, maps, _replicas(n), acceleration=r
            )


def _pattern(size: Size) -> Iterator[Cell]:
    s, n = size.sweep
    for network in size.networks:
        for pattern in PATTERNS:
            maps = {"sketch": _sketch(s)}
            key = f"{network}-{pattern}"
            yield _agreement(
                "pattern", key, size, "brain", network, maps, _replicas(n), acceleration=4, pattern=pattern
            )


def _samples(size: Size) -> Iterator[Cell]:
    counts, reference = size.cost
    ways: dict[str, Spec] = {
        "sketch": {"method": "sketch", "control_variate": False},
        "sketch + control variates": {"method": "sketch", "control_variate": True},
        "replicas": {"method": "monte_carlo", "control_variate": False},
        "replicas + control variates": {"method": "monte_carlo", "control_variate": True},
    }
    for network in ("cg-sense", "n2r"):
        maps: dict[str, Spec] = {
            f"{name}, {count}": {**options, "n_samples": count, "seed": SKETCH_SEED}
            for name, options in ways.items()
            for count in counts
        }
        maps[f"probe, {counts[1]}"] = {"method": "probe", "n_samples": counts[1], "seed": SKETCH_SEED}
        maps["auto to 3 %"] = {"method": "auto", "target_error": 0.03, "seed": AUTO_SEED}
        many = {"method": "sketch", "n_samples": reference, "seed": REFERENCE_SEED, "control_variate": True}
        # Sampled along lines CG-SENSE is solved directly.
        lines: Any = {"acceleration": 4, "pattern": "equispaced"}
        yield _agreement("samples", network, size, "brain", network, maps, many, **lines)


def _probes(size: Size) -> Iterator[Cell]:
    s, _, _ = size.methods
    maps = {name: {**_sketch(s), "distribution": name} for name in DISTRIBUTIONS}
    for network in ("cg-sense", "unet"):
        scan: Any = {"acceleration": 4, "pattern": "equispaced", "matrix": size.small}
        yield _agreement("probes", network, size, "brain", network, maps, {"method": "exact"}, **scan)


def _covariance(size: Size) -> Iterator[Cell]:
    s, n = size.sweep
    for network in size.networks:
        for covariance in ("white", "correlated", "measured"):
            key, maps = f"{network}-{covariance}", {"sketch": _sketch(s)}
            yield _agreement("covariance", key, size, "brain", network, maps, _replicas(n), covariance=covariance)


def _coil_maps(size: Size) -> Iterator[Cell]:
    s, n = size.sweep
    maps = {"differentiated": _sketch(s), "fixed": {**_sketch(s), "coil_maps": "fixed"}}
    for network in ("varnet", "n2r"):
        yield _agreement(
            "coil_maps",
            network,
            size,
            "brain",
            network,
            maps,
            _replicas(n),
            acceleration=4,
            coil_maps="estimated",
            matrix=size.measured,
        )


def _measured(size: Size) -> Iterator[Cell]:
    s, n = size.sweep
    scan = {"kind": "measured", "matrix": size.measured, "n_coils": 16, "pattern": "poisson", "acceleration": 4}
    for network in ("cg-sense", *size.networks):
        yield _cell("measured", network, size, scan, network, "brain", {"sketch": _sketch(s)}, _replicas(n))


def _g_factor(size: Size) -> Iterator[Cell]:
    s, _, _ = size.methods
    maps: dict[str, Spec] = {
        "sketch": {**_sketch(s), "control_variate": False},
        "replicas": _replicas(s),
        "lattice": {"method": "lattice", "n_samples": 1, "seed": SKETCH_SEED},
    }
    for pattern, r in (("equispaced", 2), ("equispaced", 4), ("caipi", 4)):
        scan = _regular(size.regular, 8, pattern, r)
        yield _cell("g_factor", f"{pattern}-R{r}", size, scan, "sense", None, maps, CLOSED_FORM, "sketch")


def _pico(size: Size) -> Iterator[Cell]:
    scan = _regular(PICO_MATRIX, PICO_COILS, "equispaced", 2)
    for n in PICO_SAMPLES:
        maps: dict[str, Spec] = {
            "replicas": _replicas(n),
            "sketch": {**_sketch(n), "control_variate": False},
            "probe": {"method": "probe", "n_samples": n, "seed": SKETCH_SEED},
        }
        if n == PICO_SAMPLES[0]:
            maps["lattice"] = {"method": "lattice", "n_samples": 1, "seed": SKETCH_SEED}
        yield _cell("pico", f"N{n}", size, scan, "sense", None, maps, CLOSED_FORM)


def _ranking(size: Size) -> Iterator[Cell]:
    s, _ = size.sweep
    for anatomy in ANATOMIES:
        for alpha in RANKED_ALPHAS:
            for network in SHIPPED:
                key = f"{network}-{anatomy}-alpha{alpha}"
                maps = {"sketch": _sketch(s // 4)}
                yield _agreement("ranking", key, size, anatomy, network, maps, None, alpha=alpha)


GRID: Mapping[str, Callable[[Size], Iterator[Cell]]] = MappingProxyType(
    {
        "methods": _methods,
        "noise_level": _noise_level,
        "acceleration": _acceleration,
        "pattern": _pattern,
        "samples": _samples,
        "probes": _probes,
        "covariance": _covariance,
        "coil_maps": _coil_maps,
        "measured": _measured,
        "g_factor": _g_factor,
        "pico": _pico,
        "ranking": _ranking,
    }
)
CLOSED_FORM: Spec = {"method": "closed_form"}


# -- parts -----------------------------------------------------------------------------------------------------


def _sketch(n: int) -> Spec:
    return {"method": "sketch", "n_samples": n, "seed": SKETCH_SEED}


def _replicas(n: int) -> Spec:
    return {"method": "monte_carlo", "n_samples": n, "seed": REFERENCE_SEED}


def _regular(matrix: tuple[int, int], n_coils: int, pattern: str, acceleration: int) -> Spec:
    kind = {"kind": "regular", "matrix": matrix, "n_coils": n_coils}
    return {**kind, "pattern": pattern, "acceleration": acceleration}


def _agreement(
    table: str,
    key: str,
    size: Size,
    anatomy: str,
    reconstruction: str,
    maps: Mapping[str, Spec],
    reference: Spec | None,
    shown: bool = False,
    **scan: Any,
) -> Cell:
    """A cell on a scan of the protocol."""
    made = {
        "kind": "paper",
        "anatomy": anatomy,
        "matrix": size.matrix,
        "n_coils": size.coils[anatomy],
        "acceleration": 8,
        "pattern": "poisson",
        "alpha": 1,
        "covariance": "white",
        **scan,
    }
    return _cell(table, key, size, made, reconstruction, anatomy, maps, reference, "sketch" if shown else None)


def _cell(
    table: str,
    key: str,
    size: Size,
    scan: Spec,
    reconstruction: str,
    weights: str | None,
    maps: Mapping[str, Spec],
    reference: Spec | None,
    shown: str | None = None,
) -> Cell:
    parameters: Spec = {"scan": scan, "reconstruction": reconstruction, "maps": dict(maps), "batch_size": size.batch}
    optional = {"weights": weights, "reference": reference, "shown": shown}
    parameters |= {name: value for name, value in optional.items() if value is not None}
    return Cell(table, key, parameters, _cost(parameters))


def _cost(parameters: Spec) -> float:
    """Seconds on one core: products times that of one, which grows with k-space."""
    scan = parameters["scan"]
    one = SECONDS[parameters["reconstruction"]]
    one *= prod(scan["matrix"]) * (scan["n_coils"] + 6) / (40 * 36 * 12)
    specs = [*parameters["maps"].values(), parameters.get("reference", {})]
    return round(MAP_SECONDS * len(specs) + one * sum(_products(spec, scan) for spec in specs), 1)


def _products(spec: Spec, scan: Spec) -> float:
    per_sample = {"nonlinear": 10, "probe": 4, "auto": 1.3}
    if spec.get("method") == "exact":
        return 2.0 * prod(scan["matrix"])
    if "target_error" in spec:
        return 0.3 / spec["target_error"] ** 2
    return float(per_sample.get(spec.get("method", ""), 1) * spec.get("n_samples", 0))
