"""The networks, their weights and what they cost (needs the extra ``torch``)."""

try:
    import timm as _timm  # noqa: F401
    import torch as _torch  # noqa: F401
except ImportError as _error:
    from edgefiqa.errors import MissingExtraError

    raise MissingExtraError(str(_error.name), "torch") from _error

from edgefiqa.models.card import ModelCard
from edgefiqa.models.cost import Cost, measure_cost
from edgefiqa.models.published import import_checkpoint
from edgefiqa.models.store import default_model_dir, load_model, save_model
from edgefiqa.models.zoo import MODELS, ModelSpec, build, get_spec

__all__ = [
    "MODELS",
    "Cost",
    "ModelCard",
    "ModelSpec",
    "build",
    "default_model_dir",
    "get_spec",
    "import_checkpoint",
    "load_model",
    "measure_cost",
    "save_model",
]
