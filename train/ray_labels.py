"""Scoring chunks with Ray Data: the same work as the local engine's, on any number of machines."""

import logging
import os
import pickle
from collections.abc import Iterator, Sequence
from typing import Any

from edgefiqa.errors import MissingExtraError
from edgefiqa.memory import keep_memory
from edgefiqa.train.chunk_scoring import (
    Chunk,
    ChunkScorer,
    LabelSettings,
    load_teacher,
)

__all__ = ["run_ray"]


class _Worker:
    """An actor: loads the teachers once, then scores chunk after chunk."""

    def __init__(self, models: tuple[str, ...], settings: LabelSettings) -> None:
        keep_memory()
        self._scorer = ChunkScorer([load_teacher(model) for model in models], settings)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        chunk: Chunk = pickle.loads(row["chunk"])
        return {"number": chunk.number, "text": self._scorer.score(chunk)}


def run_ray(
    models: tuple[str, ...], settings: LabelSettings, chunks: Sequence[Chunk], *, workers: int
) -> Iterator[tuple[int, str]]:
    """Score chunks on Ray.

    Joins the cluster that ``RAY_ADDRESS`` names or that this process is already connected to;
    otherwise starts Ray on this machine, and stops it at the end.

    Args:
        models: The teachers, as `load_teacher` takes them; every machine must see these paths.
        settings: How to label.
        chunks: The work; every machine must see the images.
        workers: Actors, each with `settings.threads` CPUs, or one GPU where the device is one.

    Yields:
        Number and rows of each chunk, in any order.

    Raises:
        MissingExtraError: Ray is not installed.
    """
    if not chunks:
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        package, extra = "ray", "ray"
        raise MissingExtraError(package, extra) from error
    started = not ray.is_initialized()
    if started:
        _connect(settings.threads * workers)
    try:
        items = [{"chunk": pickle.dumps(chunk)} for chunk in chunks]
        on_gpu = settings.device != "cpu"
        labelled = ray.data.from_items(items, override_num_blocks=len(items)).map(
            # The stubs know functions only; Ray makes an actor of a class.
            _Worker,
            fn_constructor_args=(models, settings),
            # All actors from the start: they load for seconds and then work for hours.
            compute=ray.data.ActorPoolStrategy(size=min(workers, len(chunks))),
            num_cpus=None if on_gpu else settings.threads,
            num_gpus=1 if on_gpu else None,
        )
        for row in labelled.iter_rows():
            yield int(row["number"]), str(row["text"])
    finally:
        if started:
            ray.shutdown()


def _connect(cpus: int) -> None:
    """Join the named cluster, or start Ray here without dashboard, usage reports or banner."""
    import ray

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "warning"}
    if os.environ.get("RAY_ADDRESS"):
        ray.init(**quiet)
    else:
        ray.init(num_cpus=max(cpus, 1), include_dashboard=False, **quiet)
