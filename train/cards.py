"""The words of a card: what only a person knows about a scorer."""

from edgefiqa.recipe import RecipeModel

__all__ = ["CardText"]


class CardText(RecipeModel):
    """The words of `edgefiqa.models.ModelCard`; figures and hashes are added by the run.

    Attributes:
        name: Name of the weights.
        version: Version of the weights.
        description: What it is, how it was made, what it is not for.
        training_data: The data, named, and where its labels come from.
        licence: SPDX identifier of the weights.
        held_back: What the held-back figures were measured on.
        held_out_types: What the figures on left-out kinds of degradation were measured on.
        commands: How to make these weights again.
    """

    name: str
    version: str
    description: str
    training_data: str
    licence: str
    held_back: str = "held-back images of the labelled set"
    held_out_types: str = "held-back images, kinds of degradation left out of training"
    commands: tuple[str, ...] = ()
