"""What a client, or the console of a scanner, may choose."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from mrnoise.catalogue import RECONSTRUCTIONS, Settings, reconstruction
from mrnoise.checks import check_seed
from mrnoise.estimators import method as method_named
from mrnoise.estimators.methods import names as method_names
from mrnoise.files.text import printable
from mrnoise.mapping.coil_maps import FIXED, PROPAGATED, check_choice
from mrnoise.mapping.run import DEFAULT_TARGET_ERROR, Request
from mrnoise.reconstruction.protocol import Reconstruction, as_reconstruction

# Beside the magnitude image, which always goes out.
SENT = ("snr", "std", "g_factor")
SWITCH = {"true": True, "false": False, "1": True, "0": False}


@dataclass(frozen=True)
class Parameters:
    """How scans are mapped, and what is sent back; as the options of ``mrnoise map``.

    Parameters
    ----------
    preview
        Whether a preview goes out as soon as an image is complete.
    sent
        Quantities beside the magnitude image.
    integers
        Send int16 with a slope, not float32.

    Examples
    --------
    >>> asked, notes = Parameters().changed('{"parameters": {"method": "sketch", "samples": "40", "colour": "red"}}')
    >>> asked.method, asked.samples
    ('sketch', 40)
    >>> notes
    ['unknown parameter colour: the parameters are reconstruction, regularization, weights, coilmaps, method, \
targeterror, samples, seed, preview, snr, std, gfactor, integers']
    """

    reconstruction: str = "cg-sense"
    regularization: float | None = None
    weights: str = "brain"
    normalization: str = "propagated"
    coil_maps: str = FIXED
    method: str = "auto"
    target_error: float | None = None
    samples: int | None = None
    control_variate: bool | None = None
    half_precision: bool | None = None
    seed: int = 0
    batch_size: int | None = None
    device: str = "cpu"
    preview: bool = True
    sent: tuple[str, ...] = SENT
    integers: bool = False

    def made(self) -> tuple[Reconstruction, Request]:
        """The reconstruction, and what is asked for.

        Raises
        ------
        InputError
            If there is none of these names, options exclude each other, or a number makes no sense.
        """
        check_choice(self.coil_maps)
        check_seed(self.seed, below="2³²")
        method = method_named(self.method, control_variate=self.control_variate, half_precision=self.half_precision)
        return self._reconstruction()[0], Request.of(method, self.samples, self.target_error, self.batch_size)

    def _reconstruction(self) -> tuple[Reconstruction, Settings]:
        """The reconstruction, and its settings after it has taken those that concern it."""
        settings = Settings(self.regularization, self.weights, self.normalization, self.coil_maps)
        return as_reconstruction(reconstruction(self.reconstruction, settings)), settings

    def check_taken(self) -> None:
        """Raise `InputError` if a setting was given that the reconstruction does not take."""
        self._reconstruction()[1].check_taken(self.reconstruction)

    def changed(self, config: str) -> tuple[Parameters, list[str]]:
        """With what a configuration says, and a sentence on each part of it that is not used.

        Parameters
        ----------
        config
            JSON: an object with the parameters, or with an object ``parameters``. Any other text changes nothing.
        """
        values = _values(config)
        if values is None:
            return self, [f"the configuration {printable(config.strip()[:40])!r} is no JSON: nothing is changed"]
        found, notes = self, []
        for name, value in values.items():
            control = CONTROLS.get(name)
            if control is None:
                notes.append(f"unknown parameter {printable(name[:40])}: the parameters are {', '.join(CONTROLS)}")
                continue
            try:
                tried = control.put(found, control.read(value))
                tried.made()
                found = tried
            except (ValueError, OverflowError):
                notes.append(f"parameter {name}: expected {control.expected}; received {printable(str(value)[:40])!r}")
        untaken = [name for name in found._reconstruction()[1].untaken() if name in values]
        notes += [f"parameter {name} changes nothing: {found.reconstruction} takes none" for name in untaken]
        return found, notes

    @property
    def exhaustive(self) -> bool:
        """Whether its method takes no stopping rule."""
        return method_named(self.method).exhaustive


def _values(config: str) -> Mapping[str, Any] | None:
    try:
        found = json.loads(config) if config.strip() else {}
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    inner = found.get("parameters", found)
    if not isinstance(inner, dict):
        return None
    return {name: value for name, value in inner.items() if inner is not found or name != "version"}


@dataclass(frozen=True)
class Control:
    """A parameter as the console shows it, and how it is taken over.

    Parameters
    ----------
    kind
        ``"choice"``, ``"int"``, ``"double"``, ``"boolean"`` or ``"string"``.
    label, information
        For people.
    default
        Of the console.
    put
        Parameters and value → parameters with it.
    choices
        Of a choice.
    least, most
        Of a number.
    unit
        Of a number, at most three characters.
    """

    kind: Literal["choice", "int", "double", "boolean", "string"]
    label: str
    information: str
    default: str | float | bool
    put: Callable[[Parameters, Any], Parameters]
    choices: tuple[str, ...] = ()
    least: float = 0
    most: float = 0
    unit: str = ""

    @property
    def expected(self) -> str:
        """In words."""
        if self.kind == "choice":
            return f"one of {', '.join(self.choices)}"
        if self.kind == "boolean":
            return "true or false"
        if self.kind == "string":
            return "a number, or nothing"
        return f"a {'whole ' if self.kind == 'int' else ''}number, {self.least:.10g} to {self.most:.10g}"

    def read(self, value: Any) -> Any:
        """A value as it was sent: consoles send numbers and switches as text too.

        Raises
        ------
        ValueError
            If it is none.
        """
        text = str(value).strip()
        if self.kind == "boolean":
            if text.lower() not in SWITCH:
                raise ValueError(text)
            return SWITCH[text.lower()]
        if self.kind == "choice":
            if text not in self.choices:
                raise ValueError(text)
            return text
        if self.kind == "string":
            return text
        number = float(text)
        if not self.least <= number <= self.most or (self.kind == "int" and number != int(number)):
            raise ValueError(text)
        return int(number) if self.kind == "int" else number


def _regularization(parameters: Parameters, text: str) -> Parameters:
    weight = float(text) if text else None
    if weight is not None and not 0 <= weight < math.inf:
        raise ValueError(text)
    return replace(parameters, regularization=weight)


def _method(parameters: Parameters, name: str) -> Parameters:
    changed = replace(parameters, method=name, control_variate=None, half_precision=None)
    return replace(changed, target_error=None, samples=None) if changed.exhaustive else changed


def _target(parameters: Parameters, percent: float) -> Parameters:
    if parameters.exhaustive or parameters.samples is not None:
        return parameters
    return replace(parameters, target_error=percent / 100)


def _samples(parameters: Parameters, count: int) -> Parameters:
    if parameters.exhaustive or not count:
        return parameters
    return replace(parameters, samples=count, target_error=None)


def _switch(quantity: str) -> Callable[[Parameters, bool], Parameters]:
    def put(parameters: Parameters, on: bool) -> Parameters:
        wanted = {*parameters.sent, quantity} if on else {*parameters.sent} - {quantity}
        return replace(parameters, sent=tuple(name for name in SENT if name in wanted))

    return put


def _field(name: str) -> Callable[[Parameters, Any], Parameters]:
    return lambda parameters, value: replace(parameters, **{name: value})


CONTROLS: dict[str, Control] = {
    "reconstruction": Control(
        "choice",
        "Reconstruction",
        "Image whose noise is mapped",
        "cg-sense",
        _field("reconstruction"),
        choices=tuple(RECONSTRUCTIONS),
    ),
    "regularization": Control(
        "string", "Regularization", "Weight; empty for that of the reconstruction", "", _regularization
    ),
    "weights": Control(
        "choice", "Network weights", "Of a trained network", "brain", _field("weights"), choices=("brain", "knee")
    ),
    "coilmaps": Control(
        "choice",
        "Coil maps",
        "Held fixed, or with the noise of the calibration lines",
        FIXED,
        _field("coil_maps"),
        choices=(FIXED, PROPAGATED),
    ),
    "method": Control("choice", "Method", "How noise is estimated", "auto", _method, choices=method_names()),
    "targeterror": Control(
        "double",
        "Error of the noise",
        "Relative, to which it is certified; not used with samples",
        100 * DEFAULT_TARGET_ERROR,
        _target,
        least=0.1,
        most=50.0,
        unit="%",
    ),
    "samples": Control("int", "Samples", "Number of probes; 0: until the error is reached", 0, _samples, most=100000),
    "seed": Control("int", "Seed", "Of the probes", 0, _field("seed"), most=2**31 - 1),
    "preview": Control("boolean", "Preview", "A first look from few probes", True, _field("preview")),
    "snr": Control("boolean", "SNR", "Send the map of SNR", True, _switch("snr")),
    "std": Control("boolean", "Noise", "Send the map of the noise", True, _switch("std")),
    "gfactor": Control("boolean", "g-factor", "Send the map of the g-factor", True, _switch("g_factor")),
    "integers": Control("boolean", "Integers", "Send int16 with a slope instead of float32", False, _field("integers")),
}
"""Parameters by the names of the configuration; at most fourteen, as a console takes no more."""
