"""Scoring chunks with the processes of this machine."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from functools import cache
from multiprocessing import get_context

from edgefiqa.memory import keep_memory
from edgefiqa.train.chunk_scoring import (
    Chunk,
    ChunkScorer,
    LabelSettings,
    Teacher,
    load_teacher,
)
from edgefiqa.workers import end_with_parent

__all__ = ["run_local"]


def run_local(
    models: tuple[str, ...],
    teachers: Sequence[Teacher],
    settings: LabelSettings,
    chunks: Sequence[Chunk],
    *,
    workers: int,
) -> Iterator[tuple[int, str]]:
    """Score chunks.

    Args:
        models: The teachers' names, for worker processes.
        teachers: The same, loaded, for this process.
        settings: How to label.
        chunks: The work.
        workers: Processes; 1 works in this one.

    Yields:
        Number and rows of each chunk, in any order.
    """
    workers = min(workers, len(chunks))
    if workers <= 1:
        scorer = ChunkScorer(teachers, settings)
        yield from ((chunk.number, scorer.score(chunk)) for chunk in chunks)
        return
    # Forked workers would inherit the parent's torch threads in an unusable state.
    spawn = get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=_start_worker)
    try:
        futures: list[Future[tuple[int, str]]] = [
            pool.submit(_score_chunk, models, settings, chunk) for chunk in chunks
        ]
        for future in as_completed(futures):
            yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    keep_memory()
    end_with_parent()


@cache
def _scorer(models: tuple[str, ...], settings: LabelSettings) -> ChunkScorer:
    return ChunkScorer([load_teacher(model) for model in models], settings)


def _score_chunk(models: tuple[str, ...], settings: LabelSettings, chunk: Chunk) -> tuple[int, str]:
    return chunk.number, _scorer(models, settings).score(chunk)
