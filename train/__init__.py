"""Train: a corpus in, a teacher out. See README.md beside this file."""

from edgefiqa.train.evaluation import evaluate, score_images
from edgefiqa.train.loop import (
    AveragedWeights,
    MetricsLog,
    load_checkpoint,
    rate_factor,
    save_checkpoint,
    training_progress,
)
from edgefiqa.train.losses import pearson, plcc_loss, score_loss
from edgefiqa.train.settings import RecipeModel, load_recipe
from edgefiqa.train.teacher import MAP_CHANNELS, MAP_STRIDES, Lite0Scorer

__all__ = [
    "MAP_CHANNELS",
    "MAP_STRIDES",
    "AveragedWeights",
    "Lite0Scorer",
    "MetricsLog",
    "RecipeModel",
    "evaluate",
    "load_checkpoint",
    "load_recipe",
    "pearson",
    "plcc_loss",
    "rate_factor",
    "save_checkpoint",
    "score_images",
    "score_loss",
    "training_progress",
]
