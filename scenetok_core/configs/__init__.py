"""Frozen configurations of the models, and their strict JSON form.

A configuration is stored as JSON in the metadata of every checkpoint, so a file describes itself.
"""

from __future__ import annotations

from .base import convert, from_dict, require, require_positive, to_dict
from .rae import Dit3dConfig, PointsConfig, RaeConfig, dimension_shift
from .rae_presets import DIT3D_PRESETS, RAE_PRESETS
from .sampling import QUALITIES, Prediction, SamplingConfig, ScheduleName, SolverName, at_quality
from .scenetok import (
    CompressorConfig,
    DecoderConfig,
    DepthConfig,
    DepthMapping,
    DepthUnits,
    GeneratorConfig,
    NetworkConfig,
    RayOrder,
    SceneGenConfig,
    SceneTokConfig,
    TemporalTiles,
)

ReleasedConfig = SceneTokConfig | SceneGenConfig  # of which there are published weights
ModelConfig = ReleasedConfig | RaeConfig | Dit3dConfig
StoredConfig = ModelConfig | DepthConfig  # what a checkpoint can hold

__all__ = [
    "DIT3D_PRESETS",
    "QUALITIES",
    "RAE_PRESETS",
    "CompressorConfig",
    "DecoderConfig",
    "DepthConfig",
    "DepthMapping",
    "DepthUnits",
    "Dit3dConfig",
    "GeneratorConfig",
    "ModelConfig",
    "NetworkConfig",
    "PointsConfig",
    "Prediction",
    "RaeConfig",
    "RayOrder",
    "ReleasedConfig",
    "SamplingConfig",
    "SceneGenConfig",
    "SceneTokConfig",
    "ScheduleName",
    "SolverName",
    "StoredConfig",
    "TemporalTiles",
    "at_quality",
    "convert",
    "dimension_shift",
    "from_dict",
    "require",
    "require_positive",
    "to_dict",
]
