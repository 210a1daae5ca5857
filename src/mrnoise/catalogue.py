"""The reconstructions by name: what the command line accepts."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrnoise.errors import InputError
from mrnoise.extensions import extensions

if TYPE_CHECKING:
    from mrnoise.reconstruction import KspaceToImage, Reconstruction

TIKHONOV = 1e-3
# Settings of a reconstruction alone; coil maps are those of the scan too.
OF_ONE = ("regularization", "weights", "normalization")


@dataclass(frozen=True)
class Settings:
    """What the command line says of a reconstruction; each takes what concerns it.

    Parameters
    ----------
    regularization
        Weight of each. ``None``: its own, 0.001 for SENSE and CG-SENSE.
    weights
        Of a trained network: an anatomy or a file.
    normalization
        Of a trained network.
    coil_maps
        ``"fixed"`` or ``"propagated"``, as the kernels of GRAPPA are too.
    """

    regularization: float | None = None
    weights: str = "brain"
    normalization: str = "propagated"
    coil_maps: str = "fixed"
    _taken: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    def __getattribute__(self, name: str) -> Any:
        """Whoever reads a setting takes it, from another package too."""
        if name in OF_ONE:
            object.__getattribute__(self, "_taken").add(name)
        return object.__getattribute__(self, name)

    def check_taken(self, *names: str) -> None:
        """Raise `InputError` if a setting was given that none of the reconstructions, which are made, has taken.

        Examples
        --------
        >>> settings = Settings(regularization=0.5)
        >>> reconstruction("rss", settings)
        RootSumOfSquares()
        >>> try:
        ...     settings.check_taken("rss")
        ... except InputError as error:
        ...     print(error.received)
        --regularization 0.5
        """
        if untaken := self.untaken():
            raise InputError(
                "a setting changes nothing",
                expected=f"what {', '.join(names)} takes",
                received=" ".join(f"--{name} {value}" for name, value in untaken.items()),
                remedy="Leave it out, or see mrnoise map --help for who takes it.",
            )

    def untaken(self) -> dict[str, Any]:
        """What was given and none of the reconstructions that were made has taken."""
        left, usual = [name for name in OF_ONE if name not in self._taken], Settings()
        given = {name: getattr(self, name) for name in left}
        return {name: value for name, value in given.items() if value != getattr(usual, name)}

    @property
    def tikhonov(self) -> float:
        """The Tikhonov weight."""
        return TIKHONOV if self.regularization is None else self.regularization

    def weighted(self, method: Callable[..., Reconstruction]) -> Reconstruction:
        """One with this weight, its first argument, or its own."""
        return method() if self.regularization is None else method(self.regularization)


def _sense(settings: Settings) -> Reconstruction:
    from mrnoise.reconstruction import Sense

    return Sense(settings.tikhonov)


def _cg_sense(settings: Settings) -> Reconstruction:
    from mrnoise.reconstruction import CgSense

    return CgSense(settings.tikhonov)


def _grappa(settings: Settings) -> Reconstruction:
    from mrnoise.reconstruction import Grappa

    return Grappa(regularization=settings.tikhonov, differentiate_calibration=settings.coil_maps == "propagated")


def _zero_filled(settings: Settings) -> Reconstruction:
    from mrnoise.reconstruction import ZeroFilled

    return ZeroFilled()


def _gridding(settings: Settings) -> Reconstruction:
    from mrnoise.reconstruction import Gridding

    return Gridding()


def _rss(settings: Settings) -> Reconstruction:
    from mrnoise.reconstruction import RootSumOfSquares

    return RootSumOfSquares()


def _l1_wavelet(settings: Settings) -> Reconstruction:
    from mrnoise.reconstruction import L1Wavelet

    return settings.weighted(L1Wavelet)


def _tv(settings: Settings) -> Reconstruction:
    from mrnoise.reconstruction import TotalVariation

    return settings.weighted(TotalVariation)


def _homodyne(settings: Settings) -> Reconstruction:
    from mrnoise.reconstruction import CgSense, Homodyne

    return Homodyne(CgSense(settings.tikhonov))


def _pocs(settings: Settings) -> Reconstruction:
    from mrnoise.reconstruction import CgSense, Pocs

    return Pocs(CgSense(settings.tikhonov))


def _sliding_window(settings: Settings) -> Reconstruction:
    from mrnoise.reconstruction import CgSense, SlidingWindow

    return SlidingWindow(inner=CgSense(settings.tikhonov))


def _low_rank(settings: Settings) -> Reconstruction:
    from mrnoise.reconstruction import LowRank

    return settings.weighted(LowRank)


def _network(name: str) -> Callable[[Settings], Reconstruction]:
    def make(settings: Settings) -> Reconstruction:
        from mrnoise.networks import pretrained

        return pretrained(name, settings.weights, normalization=settings.normalization)

    return make


# Those whose weights are shipped, NAME-ANATOMY.safetensors.
_WEIGHTS = Path(str(files("mrnoise"))) / "networks" / "weights"
TRAINED = tuple(sorted({path.stem.rpartition("-")[0] for path in _WEIGHTS.glob("*.safetensors")}))
RECONSTRUCTIONS: dict[str, Callable[[Settings], Reconstruction | KspaceToImage]] = {
    "sense": _sense,
    "cg-sense": _cg_sense,
    "grappa": _grappa,
    "zero-filled": _zero_filled,
    "gridding": _gridding,
    "rss": _rss,
    "l1-wavelet": _l1_wavelet,
    "tv": _tv,
    "homodyne": _homodyne,
    "pocs": _pocs,
    "sliding-window": _sliding_window,
    "low-rank": _low_rank,
    **{name: _network(name) for name in TRAINED},
}
"""Name → how it is made. Others come in by ``RECONSTRUCTIONS[name] = …``, or by an installed package whose entry points
of the group ``mrnoise.reconstructions`` name them."""


def reconstruction_names() -> tuple[str, ...]:
    """Those of the table, then those of installed packages.

    Examples
    --------
    >>> reconstruction_names()[:2]
    ('sense', 'cg-sense')
    """
    return tuple(dict.fromkeys([*RECONSTRUCTIONS, *extensions("mrnoise.reconstructions")]))


def reconstruction(name: str, settings: Settings | None = None) -> Reconstruction | KspaceToImage:
    """One by its name, an app of SigPy, a command, the user's own as ``module:name``, or the network in a file.

    Parameters
    ----------
    name
        One of `reconstruction_names`; ``sigpy:APP`` of ``sigpy.mri.app``; a command with ``{kspace}``, see
        `mrnoise.reconstruction.CommandLine`; ``module:name`` importable from the current folder or the environment; or
        a file of TorchScript (.pt, .ts) or torch.export (.pt2).
    settings
        For those that are known by name.

    Raises
    ------
    InputError
        If there is no such reconstruction.

    Examples
    --------
    >>> reconstruction("cg-sense", Settings(regularization=0.01)).regularization
    0.01
    >>> reconstruction("sigpy:SenseRecon", Settings(regularization=0.01))
    SigpyApp(SenseRecon, lamda=0.01)
    >>> reconstruction("bart pics -S -l2 -r 0.01 {kspace} {sens}")
    CommandLine('bart pics -S -l2 -r 0.01 {kspace} {sens}')
    """
    settings = settings or Settings()
    if name in RECONSTRUCTIONS:
        return RECONSTRUCTIONS[name](settings)
    others = extensions("mrnoise.reconstructions")
    if name in others:
        made: Reconstruction | KspaceToImage = others[name].load()(settings)
        return made
    from mrnoise.reconstruction import CommandLine, from_file
    from mrnoise.reconstruction.adapters import NETWORK_FILES

    if "{" in name or name.startswith("bart "):
        return CommandLine(name)
    if name.startswith("sigpy:"):
        return _sigpy(name.partition(":")[2], settings)
    if name.endswith(NETWORK_FILES):
        return from_file(name)
    if ":" in name:
        return _callable(name)
    raise InputError(
        "unknown reconstruction",
        expected="one of "
        + ", ".join(reconstruction_names())
        + f", sigpy:APP, a command with {{kspace}}, module:name, or a file ({', '.join(NETWORK_FILES)})",
        received=name,
        remedy="Put your own callable k-space → image in my_module.py and give my_module:my_function, or save your "
        "network with torch.jit.save or torch.export.save.",
    )


def _sigpy(name: str, settings: Settings) -> Reconstruction:
    from mrnoise.reconstruction import SigpyApp
    from mrnoise.reconstruction.adapters.common import package_of_host
    from mrnoise.reconstruction.sense import check_regularization

    apps = package_of_host("sigpy.mri.app", "sigpy")
    names = [app for app in apps.__all__ if "mps" in signature(getattr(apps, app)).parameters]
    if name not in names:
        raise InputError(
            "unknown app of SigPy",
            expected=f"one of {', '.join(names)}, which reconstruct from k-space and coil maps",
            received=name,
            remedy="Others in Python: mrnoise.reconstruction.SigpyApp.",
        )
    check_regularization(settings.tikhonov)
    return SigpyApp(partial(getattr(apps, name), lamda=settings.tikhonov))


def _callable(name: str) -> Reconstruction | KspaceToImage:
    module_name, _, attribute = name.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # whatever importing a module of others raises
        raise InputError(
            "cannot load the reconstruction",
            expected="module:name, importable from the current folder or the environment",
            received=f"{name} ({error})",
            remedy="Check the spelling and that the module can be imported by python.",
        ) from error
    finally:
        sys.path.pop(0)
    # A class is a recipe for a reconstruction: make one with its defaults.
    made = found() if isinstance(found, type) else found
    if not callable(made) and not hasattr(made, "bind"):
        raise InputError(
            "the reconstruction cannot be called",
            expected="a callable k-space → image, or an object with bind(acquisition)",
            received=f"{name}, a {type(made).__name__}",
            remedy="Give the name of a function, a module instance or a class.",
        )
    return made
