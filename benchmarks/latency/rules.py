"""How a latency run measures: counts, times, turns."""

from dataclasses import dataclass

from edgefiqa.errors import UsageError

__all__ = ["LatencyRules"]


@dataclass(frozen=True, kw_only=True)
class LatencyRules:
    """How a run measures.

    Attributes:
        threads: The sweep.
        rounds: Fresh processes of each cell; the independent repeats of every interval.
        turns: Turns of each process in a round; many short ones pair better than few long ones.
        warm_up: Inferences after the first and before any sample.
        turn_warm_up: Inferences before each turn, after other files had theirs.
        min_count: Fewest samples of a cell, over all rounds.
        min_seconds: Shortest time of a cell, over all rounds.
        photos_a_turn: Photographs timed end to end in each turn, where there are any.
        limit_s: A process that does not answer for so long has failed.
    """

    threads: tuple[int, ...] = (1,)
    rounds: int = 10
    turns: int = 16
    warm_up: int = 5
    turn_warm_up: int = 2
    min_count: int = 1024
    min_seconds: float = 10.0
    photos_a_turn: int = 2
    limit_s: float = 600.0

    def __post_init__(self) -> None:
        least = {"rounds": 1, "turns": 1, "min_count": 1, "warm_up": 0, "turn_warm_up": 0}
        for name, allowed in least.items():
            if getattr(self, name) < allowed:
                what = f"{name} is out of range"
                raise UsageError(what, value=getattr(self, name), allowed=f"{allowed} or more")
        if not self.threads or min(self.threads) < 1 or len(set(self.threads)) < len(self.threads):
            what = "the thread sweep is not usable"
            raise UsageError(what, value=self.threads, allowed="different numbers from 1")

    def of_turn(self, photos: int) -> dict[str, float]:
        """Return what one turn must reach for the whole run to reach the minima."""
        parts = self.rounds * self.turns
        seconds = self.min_seconds / parts
        count, wanted = -(-self.min_count // parts), self.photos_a_turn if photos else 0
        return {"count": count, "seconds": seconds, "photos": wanted}
