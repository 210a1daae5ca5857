"""The tables of the evaluation, from shards to cells of text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from types import MappingProxyType
from typing import Any

from scipy import stats

from mrnoise.reproduction import published

Shard = Mapping[str, Any]
Row = list[str]
NOTHING = "–"
ROUNDING = 1e-5
AGREEMENT = ("PCC", "PCC of sampling", "paper's NRMSE", "masked NRMSE", "floor", "error / floor")


@dataclass(frozen=True)
class Table:
    """One table.

    Parameters
    ----------
    title, text
        What it is called, and what one should see in it.
    header
        Names of the columns.
    rows
        Rows of the shards that are there.
    words
        How many columns at the left hold words, not numbers.
    """

    title: str
    text: str
    header: tuple[str, ...]
    rows: Callable[[Sequence[Shard]], Iterator[Row]]
    words: int

    def markdown(self, shards: Sequence[Shard]) -> str:
        """The table in markdown."""
        lines = [self.header, ["---"] * self.words + ["---:"] * (len(self.header) - self.words), *self.rows(shards)]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)

    def html(self, shards: Sequence[Shard]) -> str:
        """The table in HTML."""
        kinds = ["" if k < self.words else ' class="number"' for k in range(len(self.header))]
        head = "".join(f"<th{kind}>{escape(name)}</th>" for kind, name in zip(kinds, self.header, strict=True))
        body = "".join(
            "<tr>" + "".join(f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>"
            for row in self.rows(shards)
        )
        table = f'<table class="results"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        return f'<div class="scroll">{table}</div>'


def percent(value: float | None, digits: int = 2) -> str:
    """A fraction as text."""
    return NOTHING if value is None else f"{100 * value:.{digits}f} %"


def in_floors(found: Mapping[str, Any], error: str = "nrmse") -> str:
    """An error in sampling floors, where there is one: that of an exact map is rounding."""
    floor = found["floor"]
    return NOTHING if floor is None or floor < ROUNDING else f"{found[error] / floor:.2f}"


def agreement(found: Mapping[str, Any]) -> Row:
    """Cells of the columns `AGREEMENT`."""
    return [
        percent(found["correlation"]),
        percent(found["sampling_correlation"]),
        percent(found["paper_nrmse"]),
        percent(found["nrmse"]),
        percent(found["floor"]),
        in_floors(found),
    ]


def _chosen(found: Mapping[str, Any]) -> str:
    """What auto took."""
    precision = " in half precision" if found.get("half_precision") else ""
    return found["method"].replace("_", " ") + precision + (" + control variates" if found["control_variate"] else "")


def _each(shards: Sequence[Shard]) -> Iterator[tuple[Shard, str, Mapping[str, Any]]]:
    for shard in shards:
        for name, found in shard["result"].items():
            yield shard, name, found


# -- rows ------------------------------------------------------------------------------------------------------


def _methods(shards: Sequence[Shard]) -> Iterator[Row]:
    for shard, name, found in _each(shards):
        pcc, nrmse = published.METHODS.get(shard["key"], (None, None))
        if name != "sketch":
            pcc = nrmse = None
        cells = agreement(found)
        printed = [NOTHING if value is None else f"{value:.1f} %" for value in (pcc, nrmse)]
        anatomy = shard["parameters"]["weights"]
        yield [
            shard["parameters"]["reconstruction"],
            anatomy,
            name,
            *cells[:2],
            printed[0],
            cells[2],
            printed[1],
            *cells[3:],
        ]
    sketches = [found for _, name, found in _each(shards) if name == "sketch"]
    if sketches:
        pcc, nrmse = (sum(f[key] for f in sketches) / len(sketches) for key in ("correlation", "paper_nrmse"))
        printed = [f"{published.MEAN_PCC:.1f} %", f"{published.MEAN_NRMSE:.1f} %"]
        yield ["mean", "", "sketch", percent(pcc), "", printed[0], percent(nrmse), printed[1], "", "", ""]


def _swept(*names: str) -> Callable[[Sequence[Shard]], Iterator[Row]]:
    """Rows led by the reconstruction and these parameters of the scan."""

    def rows(shards: Sequence[Shard]) -> Iterator[Row]:
        for shard, name, found in _each(shards):
            parameters = shard["parameters"]
            swept = [str(parameters["scan"][key]) for key in names]
            yield [parameters["reconstruction"], *swept, name, *agreement(found)]

    return rows


def _noise_level(shards: Sequence[Shard]) -> Iterator[Row]:
    for shard, name, found in _each(shards):
        low, high = found.get("error_low"), found.get("error_high")
        yield [
            shard["parameters"]["reconstruction"],
            str(shard["parameters"]["scan"]["alpha"]),
            name if name == "sketch" else f"{name}: {_chosen(found)}",
            found.get("verdict", NOTHING),
            NOTHING if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f} %",
            f"{found['ratio']:.3f}",
            percent(found["correlation"]),
            percent(found["nrmse"]),
            percent(found["floor"]),
            in_floors(found),
        ]


def _samples(shards: Sequence[Shard]) -> Iterator[Row]:
    for shard, name, found in _each(shards):
        way, _, _ = name.partition(", ")
        if way.startswith("auto"):
            way += f": {_chosen(found)}"
        yield [
            shard["parameters"]["reconstruction"],
            way,
            str(found["n_samples"]),
            str(found["n_products"]),
            f"{found['seconds']:.2f}",
            percent(found["nrmse"]),
            percent(found["floor"]),
            in_floors(found),
        ]


def _variants(shards: Sequence[Shard]) -> Iterator[Row]:
    for shard, name, found in _each(shards):
        leading = [shard["parameters"]["reconstruction"], name, f"{found['ratio']:.4f}"]
        yield [*leading, percent(found["nrmse"]), percent(found["floor"]), in_floors(found), f"{found['worst']:.1f}"]


def _g_factor(shards: Sequence[Shard]) -> Iterator[Row]:
    for shard, name, found in _each(shards):
        scan = shard["parameters"]["scan"]
        leading = [f"{scan['pattern']}, R = {scan['acceleration']}", name, str(found["n_samples"])]
        error = [percent(found["g_nrmse"], 3), percent(found["floor"], 3), in_floors(found, "g_nrmse")]
        yield [*leading, str(found["n_products"]), *error]


def _pico(shards: Sequence[Shard]) -> Iterator[Row]:
    for _, name, found in _each(shards):
        n = found["n_samples"]
        printed = {"probe": published.PICO_PROBES, "replicas": published.PICO_REPLICAS}.get(name)
        printed_here = printed is not None and n == published.PICO_SAMPLES
        yield [
            name,
            str(n),
            str(found["n_products"]),
            percent(found["g_nrmse"]),
            percent(found["floor"]),
            in_floors(found, "g_nrmse"),
            f"{printed:.2f} %" if printed_here else NOTHING,
        ]


def ranked(shards: Sequence[Shard]) -> Iterator[tuple[str, float, list[tuple[str, float, float]], float]]:
    """Anatomy, α, (network, SNR, PSNR) by falling SNR, and Spearman's correlation of the two."""
    groups: dict[tuple[str, float], list[tuple[str, float, float]]] = {}
    for shard, _, found in _each(shards):
        scan = shard["parameters"]["scan"]
        row = (shard["parameters"]["reconstruction"], found["snr"], found["psnr"])
        groups.setdefault((scan["anatomy"], scan["alpha"]), []).append(row)
    for (anatomy, alpha), rows in groups.items():
        rho = stats.spearmanr([r[1] for r in rows], [r[2] for r in rows])[0] if len(rows) > 2 else float("nan")
        yield anatomy, alpha, sorted(rows, key=lambda row: -row[1]), float(rho)


def _ranking(shards: Sequence[Shard]) -> Iterator[Row]:
    for anatomy, alpha, rows, rho in ranked(shards):
        for network, snr, psnr in rows:
            place = 1 + sum(other[2] > psnr for other in rows)
            yield [anatomy, f"{alpha:g}", network, f"{snr:.1f}", f"{psnr:.2f}", str(place)]
        yield [anatomy, f"{alpha:g}", f"rank correlation {rho:+.2f}", "", "", ""]


# -- what they say ---------------------------------------------------------------------------------------------

TABLES: Mapping[str, Table] = MappingProxyType(
    {
        "methods": Table(
            "Table 1: methods and anatomies",
            "σ by the sketch against σ by replicas, R = 8 Poisson disc, α = 1. Error / floor is 1 where sampling "
            "explains the whole difference; what is above is nonlinearity. The floor contains the errors of both "
            "maps. PCC of sampling is the correlation that two maps of the same σ have with these errors. "
            "“nonlinear”: replicas with first-order noise as control variate. Published: 256×256 and larger, S = "
            "1000, N = 3000, other weights.",
            ("network", "anatomy", "map", *AGREEMENT[:2], "published", AGREEMENT[2], "published", *AGREEMENT[3:]),
            _methods,
            3,
        ),
        "noise_level": Table(
            "Noise level α",
            "The scan of table 1 with α times its noise. The sketch alone fails where the network is nonlinear at "
            "the noise level of the scan; auto asks the verdict and takes replicas there. Limits: 99 % interval of "
            "the error of the first-order σ that the verdict rests on. Ratio: mean σ over that of the reference.",
            ("network", "α", "map", "verdict", "limits", "ratio", "PCC", *AGREEMENT[3:]),
            _noise_level,
            4,
        ),
        "acceleration": Table(
            "Acceleration R",
            "Poisson disc, knee, α = 1. The agreement should not depend on R.",
            ("network", "R", "map", *AGREEMENT),
            _swept("acceleration"),
            3,
        ),
        "pattern": Table(
            "Sampling pattern",
            "R = 4, brain, α = 1. Nor should it depend on the pattern.",
            ("network", "pattern", "map", *AGREEMENT),
            _swept("pattern"),
            3,
        ),
        "samples": Table(
            "Error against cost",
            "A product is a reconstruction, a jvp or a vjp. A sample of the sketch and a replica are worth the "
            "same; control variates make either worth more, most where the reconstruction is close to CG-SENSE. The "
            "error contains that of the reference, as the floor does. Seconds are those of one core, checks "
            "included.",
            ("reconstruction", "way", "samples", "products", "seconds", *AGREEMENT[3:]),
            _samples,
            2,
        ),
        "probes": Table(
            "Distribution of the probes",
            "The sketch against an exact map. Circular probes are unbiased for real-linear maps. Real ±1 probes are "
            "not: worst voxel is the largest difference in standard errors, about 3 to 4 where nothing but sampling "
            "is at work.",
            ("reconstruction", "probes", "ratio", *AGREEMENT[3:], "worst voxel"),
            _variants,
            2,
        ),
        "covariance": Table(
            "Noise covariance Ψ",
            "White, correlated (random, condition number 20) and, where a noise scan is given, measured; the same mean "
            "variance. R = 8, α = 1.",
            ("network", "Ψ", "map", *AGREEMENT),
            _swept("covariance"),
            3,
        ),
        "coil_maps": Table(
            "Coil maps fixed or differentiated",
            "Maps estimated from the calibration lines of the noisy scan, R = 4, α = 1; the replicas estimate them "
            "anew. Holding them fixed leaves out the noise of the calibration lines.",
            ("network", "coil maps", "ratio", *AGREEMENT[3:], "worst voxel"),
            _variants,
            2,
        ),
        "measured": Table(
            "Measured scan",
            "cima16_brain, 16 coils, Ψ from its background, Poisson disc R = 4, at its own noise level.",
            ("reconstruction", "pattern", "map", *AGREEMENT),
            _swept("pattern"),
            3,
        ),
        "g_factor": Table(
            "g-factor of SENSE",
            "Against the closed form; the lattice is exact.",
            ("sampling", "map", "samples", "products", "NRMSE of g", "floor", "error / floor"),
            _g_factor,
            2,
        ),
        "pico": Table(
            "Cartesian experiment of PICO",
            "SENSE R = 2, 320×256, 8 coils, σ of the reference in closed form. Replicas and sketch err 1/(2√N), "
            "twice that variance where the fully sampled σ comes from replicas too: 5.0 % at N = 200. A probe is "
            "two products. The lattice is exact after one draw. Published values: other coils, other noise.",
            ("map", "N", "products", "NRMSE of g", "floor", "error / floor", "published"),
            _pico,
            1,
        ),
        "ranking": Table(
            "SNR against PSNR",
            "SNR needs no ground truth, PSNR does. Both rise where a network removes noise; SNR does not see what it "
            "invents, blurs or leaves aliased. Median SNR inside the object, R = 8.",
            ("anatomy", "α", "network", "SNR", "PSNR (dB)", "place by PSNR"),
            _ranking,
            3,
        ),
    }
)
