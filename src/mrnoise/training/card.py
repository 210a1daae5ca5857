"""Weights with all that is known of them: the header of the file, and the model card beside it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mrnoise.files.atomic import replacing
from mrnoise.mapping.provenance import hardware, versions
from mrnoise.networks.weights import load_weights, save_weights
from mrnoise.training.evaluation import COILS, MATRIX, N_SLICES, SNR, Quality
from mrnoise.training.loop import Trained
from mrnoise.training.recipe import Recipe


def save_trained(trained: Trained, recipe: Recipe, path: Path, device: str | torch.device) -> None:
    """Weights in half precision; the header holds recipe, history, hardware, commit and versions.

    Parameters
    ----------
    trained
        Outcome of `mrnoise.training.train`.
    recipe
        By which it was trained.
    path
        Ends in ``.safetensors``.
    device
        On which it was trained, for the record.

    Examples
    --------
    >>> from mrnoise.networks import build
    >>> from mrnoise.training import read_recipe
    >>> recipe = read_recipe("modl-brain")
    >>> network = build("modl", **recipe.network.settings)
    >>> save_trained(Trained(network, [], seconds=90.0, steps=500), recipe, Path("mine.safetensors"), "cpu")
    >>> header = load_weights(Path("mine.safetensors"))[1]
    >>> header["name"], header["steps"], header["minutes"]
    ('modl-brain', 500, 1.5)
    """
    last = trained.history[-1] if trained.history else {}
    header = {
        "name": recipe.name,
        "architecture": recipe.network.architecture,
        "settings": recipe.network.settings,
        "recipe": recipe.model_dump(mode="json"),
        "steps": trained.steps,
        "validation": {key: round(value, 4) for key, value in last.items()},
        "minutes": round(trained.seconds / 60, 1),
        "hardware": hardware(torch.device(device)),
        "commit": commit(),
        "versions": versions(),
    }
    save_weights(trained.network, path, header)


def commit() -> str | None:
    """Commit of the source tree this runs from, with + where it was changed; ``None`` for an installed package."""
    folder = Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


Table = Mapping[int, Mapping[str, Quality]]


def write_card(
    weights: Path, table: Table, method: str, command: str, measured: tuple[str, Table] | None = None
) -> Path:
    """Model card beside the weights: where they come from, how good they are on held-out scans.

    Parameters
    ----------
    weights
        File of `save_trained`.
    table
        Of `mrnoise.training.evaluation.evaluate`.
    method
        The key of the network in the table.
    command
        That repeats the table.
    measured
        Name of a measured scan, and its table by `mrnoise.training.evaluation.evaluate_scan`.

    Returns
    -------
    Path
        NAME.md.

    Examples
    --------
    >>> from mrnoise.networks import build
    >>> from mrnoise.training import read_recipe
    >>> recipe = read_recipe("modl-brain")
    >>> network = build("modl", **recipe.network.settings)
    >>> save_trained(Trained(network, [], seconds=90.0, steps=500), recipe, Path("mine.safetensors"), "cpu")
    >>> methods = ("zero-filled", "cg-sense", "modl")
    >>> quality = {name: {"psnr": 30.0 + i, "ssim": 0.8, "gain": i - 1.0} for i, name in enumerate(methods)}
    >>> card = write_card(Path("mine.safetensors"), {4: {"all": quality}}, "modl", "mrnoise evaluate mine.safetensors")
    >>> card.name, [line for line in card.read_text().splitlines() if "all" in line][-1]
    ('mine.md', '| 4 | all | 30.0 / 0.800 | 31.0 / 0.800 | 32.0 / 0.800 | +1.0 |')
    """
    network, header = load_weights(weights)
    recipe = header["recipe"]
    parameters = sum(p.numel() for p in network.parameters())
    lines = [
        f"# {header['name']}",
        "",
        f"{type(network).__name__} {_words(header['settings'])}, {parameters:,} parameters, "
        f"{weights.stat().st_size / 1e6:.2f} MB in half precision.",
        "",
        f"- Learned from: {_words(recipe['paradigm'])}.",
        f"- Data: simulated scans of `{recipe['data']['file']}`, first 70 % of its slices; "
        f"{_words({k: v for k, v in recipe['data'].items() if k != 'file'})}.",
        f"- Optimisation: {_words(recipe['optimization'])}; seed {recipe['seed']}"
        + (f"; started from {recipe['initial']}" if recipe["initial"] else "")
        + ".",
        f"- {header['steps']} steps in {header['minutes']} min on {header['hardware']}, commit {header['commit']}, "
        f"torch {header['versions']['torch']}.",
        "",
        f"Held-out scans of the test block (last 18 % of the slices, behind a gap): {MATRIX[0]}×{MATRIX[1]}, {COILS} "
        f"coils, SNR {SNR:g}, {N_SLICES} slices a pattern, ESPIRiT maps from a noisy calibration scan. CG-SENSE has "
        "the best of six λ for each scan, chosen knowing the truth. PSNR in dB / SSIM of the magnitude image; "
        "gain: PSNR above CG-SENSE.",
        "",
        *_rows(table, method),
    ]
    if measured is not None:
        name, found = measured
        lines += ["", f"The measured scan `{name}`, undersampled; reference: its fully sampled SENSE image.", ""]
        lines += _rows(found, method)
    lines += ["", f"`{command}`", ""]
    card = weights.with_suffix(".md")
    with replacing(card) as (partial,):
        partial.write_text("\n".join(lines))
    return card


def _rows(table: Table, method: str) -> list[str]:
    """The table in Markdown."""
    lines = ["| R | pattern | zero-filled | CG-SENSE | network | gain |", "|---|---|---|---|---|---|"]
    for acceleration, patterns in table.items():
        for pattern, quality in patterns.items():
            found = (quality[name] for name in ("zero-filled", "cg-sense", method))
            cells = " | ".join(f"{q['psnr']:.1f} / {q['ssim']:.3f}" for q in found)
            lines.append(f"| {acceleration} | {pattern} | {cells} | {quality[method]['gain']:+.1f} |")
    return lines


def _words(record: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_value(value)}" for key, value in record.items())


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " ".join("×".join(map(str, v)) if isinstance(v, list | tuple) else str(v) for v in value)
    return str(value)
