"""Train: labelled image sets in, a scorer out. See README.md beside this file.

The names below are all that other stages may use; see ``edgefiqa.lazy`` for how they are imported.
"""

from typing import TYPE_CHECKING

from edgefiqa import lazy

if TYPE_CHECKING:
    from edgefiqa.train.averaging import AveragedWeights
    from edgefiqa.train.cards import CardText
    from edgefiqa.train.chunk_scoring import (
        LabelSettings,
        ScoringPrecision,
        Teacher,
        load_teacher,
        scoring_size,
    )
    from edgefiqa.train.evaluation import centre_crop, evaluate, score_images
    from edgefiqa.train.frozen_teacher import FrozenTeacher, TeacherRuntime
    from edgefiqa.train.guidance import Guidance
    from edgefiqa.train.label_table import PseudoLabel, keep_confident, scores_of, write_rows
    from edgefiqa.train.loop import FitResult, fit
    from edgefiqa.train.losses import LOSSES, build_loss, pearson, plcc_loss, score_loss
    from edgefiqa.train.parallel import processes
    from edgefiqa.train.precision import has_bfloat16
    from edgefiqa.train.pseudo_labels import Engine, default_workers, label_images
    from edgefiqa.train.run import TrainResult
    from edgefiqa.train.run import run as train_model
    from edgefiqa.train.scorers import LITE0, build_scorer, load_scorer, start_from, weights_file
    from edgefiqa.train.self_training import (
        SelfTrained,
        SelfTrainingRecipe,
        label_sets,
        pseudo_set,
        self_train,
    )
    from edgefiqa.train.self_training import label as label_set
    from edgefiqa.train.sets import TrainingSet, labelled_rows
    from edgefiqa.train.settings import (
        MixedPrecision,
        ResolutionPhase,
        StagedRecipe,
        TrainingStage,
        TrainRecipe,
        View,
    )
    from edgefiqa.train.sources import labelled_source, unlabelled_sources
    from edgefiqa.train.stages import parse_data, train_recipe
    from edgefiqa.train.teacher import MAP_CHANNELS, MAP_STRIDES, Lite0Scorer
    from edgefiqa.train.tracking import training_progress

__all__ = [
    "LITE0",
    "LOSSES",
    "MAP_CHANNELS",
    "MAP_STRIDES",
    "AveragedWeights",
    "CardText",
    "Engine",
    "FitResult",
    "FrozenTeacher",
    "Guidance",
    "LabelSettings",
    "Lite0Scorer",
    "MixedPrecision",
    "PseudoLabel",
    "ResolutionPhase",
    "ScoringPrecision",
    "SelfTrained",
    "SelfTrainingRecipe",
    "StagedRecipe",
    "Teacher",
    "TeacherRuntime",
    "TrainRecipe",
    "TrainResult",
    "TrainingSet",
    "TrainingStage",
    "View",
    "build_loss",
    "build_scorer",
    "centre_crop",
    "default_workers",
    "evaluate",
    "fit",
    "has_bfloat16",
    "keep_confident",
    "label_images",
    "label_set",
    "label_sets",
    "labelled_rows",
    "labelled_source",
    "load_scorer",
    "load_teacher",
    "parse_data",
    "pearson",
    "plcc_loss",
    "processes",
    "pseudo_set",
    "score_images",
    "score_loss",
    "scores_of",
    "scoring_size",
    "self_train",
    "start_from",
    "train_model",
    "train_recipe",
    "training_progress",
    "unlabelled_sources",
    "weights_file",
    "write_rows",
]

if not TYPE_CHECKING:  # a type checker that saw it would accept any name
    __getattr__ = lazy.attach(__name__)
