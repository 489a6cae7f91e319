"""Dropout for PyTorch: layers with reproducible masks, and studies that tell whether dropout helps.

The public surface; everything is defined in the room it belongs to and only named here.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dropkit import functional, nn
from dropkit.audit.audit import audit
from dropkit.catalog import catalog
from dropkit.core.errors import DropkitError, InputError, MissingExtraError
from dropkit.core.streams import checkpoint_contexts, keyed
from dropkit.kernels.dispatch import backends
from dropkit.study import study
from dropkit.variants.drop_path import depth_rates
from dropkit.variants.max_norm import MaxNorm
from dropkit.variants.regularization import regularization_loss

if TYPE_CHECKING:
    from dropkit import schedules
    from dropkit.audit.testing import assert_no_findings
    from dropkit.inference import scores
    from dropkit.inference.ensemble import ensemble
    from dropkit.inference.fold import fold
    from dropkit.inference.freeze import freeze_check, quantization_calibration
    from dropkit.inference.moments import moment_predict
    from dropkit.inference.predict import mc_predict
    from dropkit.inference.result import MCPrediction
    from dropkit.report import plots
    from dropkit.schedules.rises import RateJumpWarning
    from dropkit.study.experiment import Experiment
    from dropkit.study.spec import arm
    from dropkit.study.tuning import tune
    from dropkit.surgery import placement, presets
    from dropkit.surgery.disabled import disabled
    from dropkit.surgery.insert import Insertion, Placement, insert, remove
    from dropkit.surgery.presets import preset
    from dropkit.surgery.rates import set_rate
    from dropkit.surgery.scheduler import RateScheduler
    from dropkit.surgery.sites import Site, format_sites, sites
    from dropkit.surgery.streams import name_streams
    from dropkit.surgery.swap import swap

__all__ = [
    "DropkitError", "Experiment", "InputError", "Insertion", "MCPrediction", "MaxNorm", "MissingExtraError", "Placement",
    "RateJumpWarning", "RateScheduler", "Site", "arm", "assert_no_findings", "audit", "backends", "catalog",
    "checkpoint_contexts", "depth_rates", "disabled",
    "ensemble", "fold", "format_sites", "freeze_check", "functional", "insert", "keyed", "mc_predict", "moment_predict",
    "name_streams", "nn", "placement", "plots", "preset", "presets", "quantization_calibration", "regularization_loss",
    "remove", "schedules", "scores", "set_rate", "sites", "study", "swap",
    "tune",
]

# What only some programs use is loaded when it is first asked for: every program waits for what is imported above. The
# function `study` cannot be: once anything imports the room of that name, `dropkit.study` would be the room.
_LATER = {
    "Experiment": "study.experiment", "Insertion": "surgery.insert", "MCPrediction": "inference.result",
    "Placement": "surgery.insert", "RateJumpWarning": "schedules.rises", "RateScheduler": "surgery.scheduler",
    "Site": "surgery.sites", "arm": "study.spec", "assert_no_findings": "audit.testing",
    "disabled": "surgery.disabled", "ensemble": "inference.ensemble", "fold": "inference.fold",
    "format_sites": "surgery.sites", "freeze_check": "inference.freeze", "insert": "surgery.insert",
    "mc_predict": "inference.predict", "moment_predict": "inference.moments", "name_streams": "surgery.streams",
    "placement": "surgery.placement", "plots": "report.plots", "preset": "surgery.presets", "presets": "surgery.presets",
    "quantization_calibration": "inference.freeze", "remove": "surgery.insert", "schedules": "schedules",
    "scores": "inference.scores", "set_rate": "surgery.rates", "sites": "surgery.sites", "swap": "surgery.swap",
    "tune": "study.tuning",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'dropkit' has no attribute {name!r}")
    module = import_module(f"dropkit.{_LATER[name]}")
    value = globals()[name] = getattr(module, name, module)  # a room's own name means the room
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
