"""Train: labelled image sets in, a scorer out. See README.md beside this file."""

from edgefiqa.train.averaging import AveragedWeights
from edgefiqa.train.cards import CardText
from edgefiqa.train.evaluation import centre_crop, evaluate, score_images
from edgefiqa.train.guidance import Guidance
from edgefiqa.train.loop import FitResult, fit
from edgefiqa.train.losses import LOSSES, build_loss, pearson, plcc_loss, score_loss
from edgefiqa.train.scorers import LITE0, build_scorer, load_scorer
from edgefiqa.train.sets import TrainingSet, labelled_rows
from edgefiqa.train.settings import (
    Phase,
    Precision,
    RecipeModel,
    Stage,
    StagedRecipe,
    TrainRecipe,
    View,
    load_recipe,
)
from edgefiqa.train.teacher import MAP_CHANNELS, MAP_STRIDES, Lite0Scorer
from edgefiqa.train.tracking import training_progress

__all__ = [
    "LITE0",
    "LOSSES",
    "MAP_CHANNELS",
    "MAP_STRIDES",
    "AveragedWeights",
    "CardText",
    "FitResult",
    "Guidance",
    "Lite0Scorer",
    "Phase",
    "Precision",
    "RecipeModel",
    "Stage",
    "StagedRecipe",
    "TrainRecipe",
    "TrainingSet",
    "View",
    "build_loss",
    "build_scorer",
    "centre_crop",
    "evaluate",
    "fit",
    "labelled_rows",
    "load_recipe",
    "load_scorer",
    "pearson",
    "plcc_loss",
    "score_images",
    "score_loss",
    "training_progress",
]
