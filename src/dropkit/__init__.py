"""Dropout for PyTorch: layers with reproducible masks, and studies that tell whether dropout helps.

The public surface; everything is defined in the room it belongs to and only named here.
"""

from dropkit import functional, nn
from dropkit.catalog import catalog
from dropkit.core.errors import DropkitError, InputError, MissingExtraError
from dropkit.core.streams import checkpoint_contexts, keyed
from dropkit.kernels.dispatch import backends
from dropkit.study import Experiment, study
from dropkit.surgery.disabled import disabled
from dropkit.surgery.rates import set_rate
from dropkit.surgery.sites import Site, format_sites, sites
from dropkit.surgery.streams import name_streams
from dropkit.surgery.swap import swap
from dropkit.variants.drop_path import depth_rates
from dropkit.variants.max_norm import MaxNorm
from dropkit.variants.regularization import regularization_loss

__all__ = [
    "DropkitError", "Experiment", "InputError", "MaxNorm", "MissingExtraError", "Site", "backends", "catalog",
    "checkpoint_contexts", "depth_rates", "disabled", "format_sites", "functional", "keyed", "name_streams", "nn",
    "regularization_loss", "set_rate", "sites", "study", "swap",
]
