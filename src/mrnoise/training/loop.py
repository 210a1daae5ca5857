"""The training loop."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from math import cos, pi
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mrnoise.errors import InputError
from mrnoise.files.atomic import check_writable, replacing
from mrnoise.files.opening import reading
from mrnoise.interruption import without_interruption
from mrnoise.metrics import psnr, ssim
from mrnoise.networks.weights import build, load_weights, shipped_weights
from mrnoise.training.anatomy import read_anatomy
from mrnoise.training.paradigms import Sample, reconstruct
from mrnoise.training.recipe import Optimization, Recipe
from mrnoise.training.scans import ScanSettings, SimulatedScans

CHECKPOINT = "checkpoint.pt"
N_VALIDATION = 8
WARM_UP = 0.1  # of all steps, for one-cycle


class TrainingProgress(Protocol):
    """Told of every step, and of the quality at the last validation.

    Examples
    --------
    >>> def report(step: int, steps: int, loss: float, psnr: float, ssim: float) -> None:
    ...     print(f"step {step} of {steps}: loss {loss:.3f}, PSNR {psnr:.1f} dB, SSIM {ssim:.3f}")
    >>> report(500, 2000, 0.3521, 31.27, 0.8731)  # as train(recipe, data, folder, progress=report) does
    step 500 of 2000: loss 0.352, PSNR 31.3 dB, SSIM 0.873
    """

    def __call__(self, step: int, steps: int, loss: float, psnr: float, ssim: float) -> None:
        """Report."""
        ...


@dataclass(frozen=True, eq=False)
class Trained:
    """The outcome of training.

    Parameters
    ----------
    network
        With the averaged weights.
    history
        One record a validation: step, loss, PSNR, SSIM.
    seconds
        Spent in this and in earlier runs that it resumed.
    steps
        Steps done; fewer than the recipe's after Ctrl-C.

    Examples
    --------
    >>> trained = Trained(build("modl", unrolls=1, features=4), [{"step": 500, "psnr": 31.2}], seconds=90.0, steps=500)
    >>> type(trained.network).__name__, trained.history[-1]["psnr"]
    ('MoDL', 31.2)
    """

    network: nn.Module
    history: list[dict[str, float]]
    seconds: float
    steps: int


def train(
    recipe: Recipe,
    data: Path | None,
    folder: Path,
    *,
    device: str | torch.device = "cpu",
    workers: int = 0,
    save_every: float = 60.0,
    progress: TrainingProgress | None = None,
) -> Trained:
    """Train a network, or go on with the training that an interrupted run left in the folder.

    A step is a function of the state before it and of (seed, step): the scans and all random choices of a step
    are drawn from a generator seeded by both. A run that was killed and resumed ends with the weights of one left
    alone, bit for bit on the same machine.

    Parameters
    ----------
    recipe
        What to train, and how.
    data
        Folder with the anatomy that the recipe names; ``None``: the generated phantom.
    folder
        Where the checkpoint is kept.
    device
        A GPU trains in the precision of the recipe; so does a CPU.
    workers
        Processes that simulate scans ahead.
    save_every
        Seconds between checkpoints.
    progress
        Called after each step.

    Returns
    -------
    Trained
        After Ctrl-C: as far as it came; the same call goes on.

    Raises
    ------
    InputError
        If the data are missing, or the folder holds the checkpoint of another recipe.

    Examples
    --------
    >>> import numpy as np
    >>> from mrnoise.simulation import head_phantom
    >>> np.savez("brain.npz", volume=head_phantom((40, 64, 48)))
    >>> recipe = Recipe(
    ...     name="tiny",
    ...     network={"architecture": "modl", "settings": {"unrolls": 1, "features": 4}},
    ...     paradigm={"paradigm": "supervised"},
    ...     data={"file": "brain.npz", "matrix": ((32, 24),), "coils": (4, 4), "accelerations": (2,)},
    ...     optimization={"steps": 2, "precision": "float32"},
    ... )
    >>> trained = train(recipe, Path(), Path("run"))
    >>> trained.steps, sorted(trained.history[-1])
    (2, ['loss', 'psnr', 'ssim', 'step'])
    """
    device = torch.device(device)
    check_writable(folder / CHECKPOINT)
    anatomy = read_anatomy(None if data is None else data / recipe.data.file)
    settings = ScanSettings(**recipe.data.model_dump(exclude={"file"}))
    scans = SimulatedScans(anatomy, "train", settings, recipe.seed)
    validation = _validation(SimulatedScans(anatomy, "validation", settings, recipe.seed), device)
    optimization = recipe.optimization

    state = _State(recipe, folder, device)
    path = folder / CHECKPOINT
    if os.path.exists(path):
        state.load(path)
    started = saved = time.perf_counter()
    earlier = state.seconds
    try:
        for step, examples in _batches(scans, state.step, optimization, workers):
            with without_interruption():  # a checkpoint holds whole steps
                loss = state.advance(examples)
                if step % optimization.validate_every == 0 or step == optimization.steps:
                    state.validate(validation, loss)
                state.seconds = earlier + time.perf_counter() - started
            if time.perf_counter() - saved > save_every or step == optimization.steps:
                state.save(path)
                saved = time.perf_counter()
            if progress is not None:
                last = state.history[-1] if state.history else {"psnr": float("nan"), "ssim": float("nan")}
                progress(step, optimization.steps, loss, last["psnr"], last["ssim"])
    except KeyboardInterrupt:
        state.save(path)
    return Trained(state.averaged.module, state.history, state.seconds, state.step)


def learning_rate(optimization: Optimization, step: int) -> float:
    """Of a step counted from 0.

    cosine: ½ lr (1 + cos πt), t = step / steps. one-cycle: the same after a linear rise over a tenth of the steps.
    """
    t = step / optimization.steps
    if optimization.schedule == "one-cycle":
        if t < WARM_UP:
            return optimization.learning_rate * (step + 1) / (WARM_UP * optimization.steps + 1)
        t = (t - WARM_UP) / (1 - WARM_UP)
    return optimization.learning_rate * 0.5 * (1 + cos(pi * t))


def is_labelled(slice_index: int, share: float) -> bool:
    """Whether the target of a slice may be used: a share of all slices, evenly spread."""
    return int((slice_index + 1) * share) > int(slice_index * share)


class _State:
    """All that a step changes."""

    def __init__(self, recipe: Recipe, folder: Path, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        torch.manual_seed(recipe.seed)
        self.network = build(recipe.network.architecture, **recipe.network.settings).to(device)
        if recipe.initial is not None:
            self.network.load_state_dict(_initial(recipe, folder).state_dict())
        average = get_ema_multi_avg_fn(recipe.optimization.average)
        self.averaged = AveragedModel(self.network, multi_avg_fn=average)
        self.optimizer = torch.optim.Adam(self.network.parameters(), recipe.optimization.learning_rate)
        self.step = 0
        self.seconds = 0.0
        self.history: list[dict[str, float]] = []

    def advance(self, examples: list[Any]) -> float:
        """One step of Adam; the loss."""
        recipe = self.recipe
        optimization = recipe.optimization
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(optimization, self.step)
        generator = torch.Generator().manual_seed(_mixed(recipe.seed, self.step))
        self.optimizer.zero_grad()
        total = 0.0
        for example in examples:
            labelled = is_labelled(example.slice_index, recipe.paradigm.labelled)
            sample = Sample.of(example, self.device, labelled)
            with _precision(optimization, self.device):
                loss = recipe.paradigm.loss(self.network, sample, generator) / len(examples)
            loss.backward()
            total += float(loss.detach())
        nn.utils.clip_grad_norm_(self.network.parameters(), optimization.clip)
        self.optimizer.step()
        self.averaged.update_parameters(self.network)
        self.step += 1
        return total

    def validate(self, validation: list[Sample], loss: float) -> None:
        """PSNR and SSIM of the averaged weights."""
        self.averaged.eval()
        found = []
        for sample in validation:
            with torch.no_grad():
                image = reconstruct(self.averaged.module, sample.kspace, sample.mask, sample.maps)[0]
            found.append((psnr(image, sample.target), ssim(image, sample.target)))
        quality = np.mean(found, axis=0)
        self.history.append({"step": self.step, "loss": loss, "psnr": float(quality[0]), "ssim": float(quality[1])})

    def save(self, path: Path) -> None:
        content = {
            "recipe": self.recipe.model_dump_json(),
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "history": self.history,
        }
        with replacing(path) as (partial,):
            torch.save(content, partial)

    def load(self, path: Path) -> None:
        with reading(path, "a checkpoint of mrnoise train", "Remove it to start anew."):
            content = torch.load(path, map_location=self.device, weights_only=True)
            recipe = content["recipe"]
        if recipe != self.recipe.model_dump_json():
            raise InputError(
                "the folder holds the training of another recipe",
                expected=f"a checkpoint of {self.recipe.name} with the same settings",
                received=str(path),
                remedy="Choose another output folder, or remove the checkpoint.",
            )
        self.network.load_state_dict(content["network"])
        self.averaged.load_state_dict(content["averaged"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.step, self.seconds, self.history = content["step"], content["seconds"], content["history"]


def _initial(recipe: Recipe, folder: Path) -> nn.Module:
    """Weights that another recipe left in a folder beside this one's, else those shipped."""
    assert recipe.initial is not None
    beside = folder.parent / recipe.initial / f"{recipe.initial}.safetensors"
    path = beside if os.path.exists(beside) else shipped_weights(*recipe.initial.rsplit("-", 1))
    network, header = load_weights(path)
    if header["settings"] != recipe.network.settings:
        raise InputError(
            "the initial weights do not fit the network",
            expected=f"{recipe.initial} with {recipe.network.settings}",
            received=f"{path} with {header['settings']}",
            remedy=f"Train {recipe.initial} in the same size first, in a folder beside this one.",
        )
    return network


def _batches(
    scans: SimulatedScans, start: int, optimization: Optimization, workers: int
) -> Iterator[tuple[int, list[Any]]]:
    """(step counted from 1, its examples)."""
    from torch.utils.data import DataLoader

    batch = optimization.batch
    indices = [list(range(step * batch, (step + 1) * batch)) for step in range(start, optimization.steps)]
    loader = DataLoader(_Examples(scans), batch_sampler=indices, collate_fn=list, num_workers=workers)
    return zip(range(start + 1, optimization.steps + 1), loader, strict=True)


class _Examples(torch.utils.data.Dataset):
    def __init__(self, scans: SimulatedScans) -> None:
        self.scans = scans

    def __getitem__(self, index: int) -> Any:
        return self.scans.example(index)


def _validation(scans: SimulatedScans, device: torch.device) -> list[Sample]:
    return [Sample.of(scans.example(index), device) for index in range(N_VALIDATION)]


def _precision(optimization: Optimization, device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=optimization.precision == "bfloat16")


def _mixed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) % 2**63
