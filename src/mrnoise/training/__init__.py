"""Training of the networks: simulated scans, paradigms, the loop, and the evaluation of what it made."""

from mrnoise.errors import require_extra

require_extra("train", "pydantic", "yaml", "skimage")

# ruff: noqa: E402
from mrnoise.metrics import psnr, ssim
from mrnoise.training.anatomy import Anatomy, read_anatomy
from mrnoise.training.card import save_trained, write_card
from mrnoise.training.evaluation import evaluate, evaluate_scan, held_out
from mrnoise.training.loop import Trained, TrainingProgress, train
from mrnoise.training.paradigms import SSDU, VORTEX, Noise2Recon, Supervised
from mrnoise.training.recipe import Recipe, read_recipe, recipes
from mrnoise.training.scans import Example, ScanSettings, SimulatedScans

__all__ = [
    "SSDU",
    "VORTEX",
    "Anatomy",
    "Example",
    "Noise2Recon",
    "Recipe",
    "ScanSettings",
    "SimulatedScans",
    "Supervised",
    "Trained",
    "TrainingProgress",
    "evaluate",
    "evaluate_scan",
    "held_out",
    "psnr",
    "read_anatomy",
    "read_recipe",
    "recipes",
    "save_trained",
    "ssim",
    "train",
    "write_card",
]
