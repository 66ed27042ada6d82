"""The exceptions of edgefiqa.

::

    EdgeFiqaError                exit code 1
    ├── UsageError               exit code 2: the command or a name in it is wrong
    │   ├── UnknownNameError     a model, format, runtime or recipe that is not registered
    │   ├── MissingExtraError    an optional dependency is not installed
    │   └── PlatformError        this runtime cannot run on this operating system
    ├── DataError                exit code 1: a file is wrong
    │   ├── ImageError           a photograph that cannot be scored
    │   ├── CheckpointError      weights that do not fit the architecture
    │   ├── ArtifactError        an exported file that is damaged, stale or of another format
    │   │   └── UnsupportedOp    an op of a Core ML program that the reference evaluator lacks
    │   └── RecipeError          a recipe or label file with faults
    └── ParityError              a converted file does not say what the torch model says
"""

__all__ = [
    "ArtifactError",
    "CheckpointError",
    "DataError",
    "EdgeFiqaError",
    "ImageError",
    "MissingExtraError",
    "ParityError",
    "PlatformError",
    "RecipeError",
    "UnknownNameError",
    "UnsupportedOp",
    "UsageError",
]


class EdgeFiqaError(Exception):
    """Base of every error that edgefiqa raises on purpose.

    Args:
        what: What failed, one clause.
        value: The offending value (a path, a number), if there is one.
        allowed: What would have been accepted.
        next_step: What the user can do now.
    """

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        value: object = None,
        allowed: str | None = None,
        next_step: str | None = None,
    ) -> None:
        self.what, self.value, self.allowed, self.next_step = what, value, allowed, next_step
        text = what if value is None else f"{what}: {value}"
        if allowed:
            text += f". Allowed: {allowed}"
        if next_step:
            text += f". Next: {next_step}"
        super().__init__(text)

    def __reduce__(self) -> tuple[object, ...]:
        """Survive the way back from a worker process whatever the subclass's signature."""
        return (_restore, (type(self), str(self)))


def _restore(kind: type[EdgeFiqaError], text: str) -> EdgeFiqaError:
    error = kind.__new__(kind)
    EdgeFiqaError.__init__(error, text)
    return error


class UsageError(EdgeFiqaError):
    """The command line or an argument is wrong."""

    exit_code = 2


class UnknownNameError(UsageError):
    """A name that no registry knows."""


class MissingExtraError(UsageError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"this needs the package {package!r}, which is not installed",
            next_step=f'pip install "edgefiqa[{extra}]"',
        )


class PlatformError(UsageError):
    """The runtime exists on another operating system only."""


class DataError(EdgeFiqaError):
    """A file is wrong."""


class ImageError(DataError):
    """A photograph cannot be scored."""


class CheckpointError(DataError):
    """Weights do not fit the architecture."""


class ArtifactError(DataError):
    """An exported file is damaged, stale or of another format."""


class UnsupportedOp(ArtifactError):
    """An op of an ML Program, or a parameter of one, that the reference evaluator does not know.

    Args:
        op_type: The op as MIL names it ("lstm").
        name: Name of the node in the program.
        reason: What about it is not supported, if it is not the op as a whole.
    """

    def __init__(self, op_type: str, name: str = "", reason: str = "") -> None:
        self.op_type = op_type
        super().__init__(
            f"the MIL reference evaluator does not know the op {op_type!r}"
            if not reason
            else f"the MIL reference evaluator does not support this use of the op {op_type!r} "
            f"({reason})",
            value=name or None,
            allowed="the ops of edgefiqa.runtimes.mil.table.OPS",
            next_step="run the package in Core ML on macOS, or add the op to its family's module",
        )


class RecipeError(DataError):
    """A recipe or a label file has faults."""


class ParityError(EdgeFiqaError):
    """A converted file does not give the torch model's score."""
