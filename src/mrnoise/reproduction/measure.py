"""One cell of the evaluation: noise maps of one scan against their reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mrnoise.estimators import method
from mrnoise.mapping.run import noise_map
from mrnoise.networks import pretrained
from mrnoise.reconstruction import CgSense, Reconstruction, Sense
from mrnoise.reproduction.scans import EvaluationScan, make_scan
from mrnoise.result.noise_map import NoiseMap
from mrnoise.result.ratio import compare
from mrnoise.training import psnr


def real(shape: Sequence[int], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Probes of real ±1: E[v vᵀ] = I is not 0, so that they are biased for real-linear maps."""
    return (2 * torch.randint(0, 2, tuple(shape), generator=generator) - 1).to(dtype)


def measure(
    parameters: Mapping[str, Any], data: Path | None, device: str = "cpu"
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Noise maps of a cell.

    Parameters
    ----------
    parameters
        ``scan``, see `make_scan`. ``reconstruction`` and, for networks, ``weights``. ``maps``: by name, the options of
        `mrnoise.noise_map`; ``coil_maps="fixed"`` besides holds estimated coil maps fixed. ``reference``: the same,
        or the method ``"closed_form"`` of SENSE; without it only image and SNR are reported. ``shown``: name of the
        map whose σ (for SENSE: g) is kept beside that of the reference for a figure. ``batch_size``.
    data
        Folder with anatomies and scans.
    device
        Where to compute.

    Returns
    -------
    dict, dict
        JSON-able figures by name of map, and arrays (y, x): ``reference``, ``map``, ``inside``.
    """
    scan = make_scan(parameters["scan"], data, device)

    def made(options: Mapping[str, Any]) -> NoiseMap:
        given = {"batch_size": parameters["batch_size"], **options}
        reconstruction = _reconstruction(parameters, differentiate=given.pop("coil_maps", "") != "fixed")
        if given["method"] == "closed_form":
            return noise_map(Sense(), scan.acquisition, method="closed_form")
        named = {option: given.pop(option, None) for option in ("distribution", "control_variate", "half_precision")}
        if named["distribution"] == "real":
            named["distribution"] = real
        chosen = method(given.pop("method"), **named)
        return noise_map(reconstruction, scan.acquisition, method=chosen, **given)

    reference = made(parameters["reference"]) if "reference" in parameters else None
    found, arrays = {}, {}
    for name, options in parameters["maps"].items():
        nm = made(options)
        found[name] = _figures(nm, reference, scan)
        if name == parameters.get("shown") and reference is not None:
            # SENSE is shown by its g-factor.
            shown = {"reference": reference, "map": nm}
            values = {k: m.g_factor if reference.method == "closed_form" else m.std for k, m in shown.items()}
            arrays = {k: value.float().cpu().numpy() for k, value in values.items() if value is not None}
            arrays["inside"] = scan.inside.cpu().numpy()
    return found, arrays


def _reconstruction(parameters: Mapping[str, Any], differentiate: bool) -> Reconstruction:
    name = parameters["reconstruction"]
    if name == "sense":
        return Sense()
    if name == "cg-sense":
        return CgSense()
    return pretrained(name, parameters["weights"], differentiate_coil_maps=differentiate)


def _figures(nm: NoiseMap, reference: NoiseMap | None, scan: EvaluationScan) -> dict[str, Any]:
    inside = scan.inside
    found: dict[str, Any] = {
        "method": nm.method,
        "control_variate": bool(nm.provenance.control_variate),
        "half_precision": bool(nm.provenance.half_precision),
        "n_samples": nm.n_samples,
        "n_products": nm.n_products,
        "seconds": nm.provenance.seconds,
        "snr": float(nm.snr[inside].nanmedian()),
    }
    if scan.target is not None:
        found["psnr"] = psnr(nm.image.cpu(), scan.target)
    if nm.linearity is not None:
        worst = nm.linearity.worst
        found |= {"verdict": worst.verdict, "error_low": worst.error_low, "error_high": worst.error_high}
    if reference is not None:
        if reference.method == "closed_form":
            found["g_nrmse"] = _g_nrmse(nm, reference, inside)
        agreement = compare(nm, reference, inside)
        found |= {
            "nrmse": agreement.nrmse,
            "floor": agreement.floor,
            "paper_nrmse": agreement.paper_nrmse,
            "correlation": agreement.correlation,
            "sampling_correlation": sampling_correlation(nm, reference),
            "ratio": agreement.ratio,
            "worst": worst_voxel(nm, reference, inside),
        }
    return found


def _g_nrmse(nm: NoiseMap, reference: NoiseMap, inside: Tensor) -> float:
    """rms(g - g_reference) / mean g_reference inside the object."""
    g, wanted = nm.g_factor, reference.g_factor
    assert g is not None and wanted is not None
    return float((g - wanted)[inside].square().mean().sqrt() / wanted[inside].mean())


def sampling_correlation(a: NoiseMap, b: NoiseMap) -> float:
    """Pearson correlation over all pixels that two maps of one σ would have with the errors they state.

    s² / √((s² + e_a²)(s² + e_b²)), s² the covariance of the two over pixels, which independent errors do not change,
    e² the mean squared standard error of each.
    """
    sigma = torch.stack([a.std.flatten(), b.std.flatten()])
    known = sigma.isfinite().all(0)
    signal = float(torch.cov(sigma[:, known])[0, 1])
    errors = [float((m.relative_error * m.std).flatten()[known].nan_to_num(0).square().mean()) for m in (a, b)]
    product = (signal + errors[0]) * (signal + errors[1])
    return signal / product**0.5 if signal > 0 else float("nan")


def worst_voxel(a: NoiseMap, b: NoiseMap, inside: Tensor) -> float:
    """Largest |σ_a - σ_b| inside the object in standard errors of the difference; 0 where neither has an error."""
    error = ((a.relative_error * a.std).square() + (b.relative_error * b.std).square()).sqrt()[inside]
    difference = (a.std - b.std).abs()[inside]
    return float((difference / error)[error > 0].max()) if bool((error > 0).any()) else 0.0
