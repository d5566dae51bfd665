"""One experiment's config: its typed sections, and how they are read from YAML."""

from detnas_nni.config.data_sections import (
    ClassificationData,
    CocoSplit,
    Data,
    DetectionData,
    Sources,
    Split,
    VocSplit,
)
from detnas_nni.config.reading import load_config
from detnas_nni.config.schema import (
    COST_OF,
    STEPS,
    Config,
    Constraint,
    Detector,
    EvaluationSettings,
    Finetune,
    Hardware,
    Pretrain,
    Reproduces,
    Retrain,
    Search,
    Space,
    Training,
)
from detnas_nni.config.section import ConfigPath, Section

__all__ = [
    "COST_OF",
    "STEPS",
    "ClassificationData",
    "CocoSplit",
    "Config",
    "ConfigPath",
    "Constraint",
    "Data",
    "DetectionData",
    "Detector",
    "EvaluationSettings",
    "Finetune",
    "Hardware",
    "Pretrain",
    "Reproduces",
    "Retrain",
    "Search",
    "Section",
    "Sources",
    "Space",
    "Split",
    "Training",
    "VocSplit",
    "load_config",
]
