"""NNCF on the exported torch graph: a fake-quantised reference that torch itself runs.

There is no runtime behind it. It answers what int8 does to the scores without any converter or
kernel in between, the same for every format; ``TorchProgramScorer`` runs its files.
"""

import json
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgefiqa.convert import count_ops, example_image, prepare_scorer, versions
from edgefiqa.errors import ArtifactError
from edgefiqa.models import load_model
from edgefiqa.quantize.vendor.base import VendorJob, VendorNotes
from edgefiqa.quantize.vendor.calibration_images import open_calibration, single_images
from edgefiqa.runtimes import check_images
from edgefiqa.runtimes.base import METADATA_KEY, damaged

__all__ = ["TorchProgramScorer", "quantize"]


def quantize(job: VendorJob, path: Path) -> VendorNotes:
    """Write a ``torch.export`` program, ``.pt2``; see ``Quantize``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import nncf

        model, _ = load_model(job.source)
        example = example_image(job.size)
        program = torch.export.export(prepare_scorer(model, job.size), (example,)).module()
        images = open_calibration(job.calibration, job.size)
        data = [torch.from_numpy(image) for image in single_images(images)]
        quantised = nncf.quantize(program, nncf.Dataset(data), subset_size=len(data))
        exported = torch.export.export(quantised, (example,))
        torch.export.save(
            exported, path, extra_files={METADATA_KEY: job.metadata.model_dump_json()}
        )
    names = (str(node.target) for node in exported.graph.nodes if node.op == "call_function")
    return VendorNotes(
        tools=versions("nncf", "torch", "torchao"),
        structure=count_ops(names),
        remarks=["a reference in torch, not a file to ship: edgefiqa score does not read .pt2"],
    )


class TorchProgramScorer:
    """A quantised ``.pt2`` program, run eagerly by torch; a ``Scorer``.

    Attributes:
        runtime: "torch 2.14.1", for records.
        size: Input side in pixels.
        metadata: What was written into the file.
    """

    def __init__(self, path: Path) -> None:
        extra: dict[str, Any] = {METADATA_KEY: ""}
        import torchao.quantization.pt2e  # noqa: F401  (registers the operators)

        try:
            program = torch.export.load(path, extra_files=extra)
        except Exception as error:  # zip errors, NNCF's errors, and those of what it unpacks
            raise damaged(path, "torch.export", error) from error
        if not extra[METADATA_KEY]:
            raise ArtifactError("this program carries no edgefiqa metadata", value=path)
        self.metadata: dict[str, Any] = json.loads(extra[METADATA_KEY])
        self.runtime = f"torch {version('torch')}"
        self.size = int(self.metadata["contract"]["size"])
        self._module = program.module()

    def score(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Score uint8 ``[n, S, S, 3]`` images one by one; see ``Scorer.score``."""
        check_images(images, self.size)
        scores = np.empty(len(images), np.float32)
        with torch.no_grad():
            for index, image in enumerate(single_images(images)):
                scores[index] = self._module(torch.from_numpy(image)).item()
        return scores
