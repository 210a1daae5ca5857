"""The label by which a console of Open Recon knows the container: schema 1.1.0."""

from __future__ import annotations

import base64
import json
from importlib.metadata import version
from typing import Any

from mrnoise.serving.parameters import CONTROLS, Control
from mrnoise.serving.server import PORT

KEY = "com.siemens-healthineers.magneticresonance.openrecon.metadata:1.1.0"
# What a slice of 256 × 256 in 64 coils needs, and a volume that goes plane by plane.
MEMORY_MB, CORES = 8192, 4
RESEARCH = "For research, not for diagnosis. Tried on no scanner."


def label() -> dict[str, Any]:
    """What the scanner is asked for, and the parameters that its console shows.

    Raw lines without the filter along the readout and without compression of channels, both of which would change Ψ,
    and with the noise lines of the adjustment.

    Examples
    --------
    >>> found = label()
    >>> found["reconstruction"]["emitter"], len(found["parameters"])
    ('raw', 13)
    """
    number = version("mrnoise")
    information = "Maps of SNR, noise and g-factor of the reconstructed image, with a certified error"
    empty = ("manufacturer_address", "made_in", "manufacture_date", "gtin", "udi")
    return {
        "general": {
            "name": {"en": "mrnoise"},
            "version": number,
            "vendor": "mrnoise",
            "information": {"en": f"{information}. {RESEARCH}"},
            "id": "mrnoise",
            "regulatory_information": {
                "device_trade_name": "mrnoise",
                "production_identifier": number,
                **dict.fromkeys(empty, ""),
                "material_number": f"mrnoise_{number}",
                "safety_advices": RESEARCH,
                "special_operating_instructions": "Noise adjustment on. See docs/scanner.md.",
                "additional_relevant_information": "Apache-2.0",
            },
        },
        "reconstruction": {
            "transfer_protocol": {"protocol": "ISMRMRD", "version": "1.4.1"},
            "port": PORT,
            "emitter": "raw",
            "injector": "image",
            "can_process_adjustment_data": True,
            "can_use_gpu": False,
            "min_count_required_gpus": 0,
            "min_required_gpu_memory": 0,
            "min_required_memory": MEMORY_MB,
            "min_count_required_cpu_cores": CORES,
            "content_qualification_type": "RESEARCH",
            "require_readout_filter_off": True,
            "channel_compression": {"require_state": "off"},
        },
        "parameters": [_parameter(name, control) for name, control in CONTROLS.items()],
    }


def _parameter(name: str, control: Control) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": name,
        "type": control.kind,
        "label": {"en": control.label},
        "information": {"en": control.information},
        "default": control.default,
    }
    if control.kind == "choice":
        found["values"] = [{"id": choice, "name": {"en": choice}} for choice in control.choices]
    if control.kind in ("int", "double"):
        found |= {"minimum": control.least, "maximum": control.most}
    if control.unit:
        found["unit"] = {"en": control.unit}
    return found


def written() -> str:
    """The label as JSON, as ``container/openrecon.json`` has it."""
    return json.dumps(label(), indent=2, ensure_ascii=False) + "\n"


def encoded() -> str:
    """The label as an image carries it, under `KEY`: JSON in base64."""
    return base64.b64encode(json.dumps(label()).encode()).decode()
