"""The parts of a configuration: data sets, networks and the band. Imports neither torch nor numpy.

Each part can be written as its name alone (``data: digits``), with a size (``digits@16``) or as a
mapping with options (``data: {name: digits, size: 16}``).
"""

from __future__ import annotations

from ebm_core.sections.band import BANDS, Band
from ebm_core.sections.base import LARGEST, Count, Section
from ebm_core.sections.data import (
    DATA_KINDS,
    ArrayData,
    DataConfig,
    DigitsData,
    GmmData,
    HeldOut,
    HuggingFaceData,
    ImageFolderData,
    PatchesData,
    RingsData,
    has_control,
)
from ebm_core.sections.networks import (
    IMAGE_SIZES,
    NETWORK_KINDS,
    Activation,
    CustomNetwork,
    MlpNetwork,
    NetworkConfig,
    NonlocalNetwork,
    ToyNetwork,
    VanillaNetwork,
    network_problems,
)

__all__ = [
    "BANDS",
    "DATA_KINDS",
    "IMAGE_SIZES",
    "LARGEST",
    "NETWORK_KINDS",
    "Activation",
    "ArrayData",
    "Band",
    "Count",
    "CustomNetwork",
    "DataConfig",
    "DigitsData",
    "GmmData",
    "HeldOut",
    "HuggingFaceData",
    "ImageFolderData",
    "MlpNetwork",
    "NetworkConfig",
    "NonlocalNetwork",
    "PatchesData",
    "RingsData",
    "Section",
    "ToyNetwork",
    "VanillaNetwork",
    "has_control",
    "network_problems",
]
