"""What the evaluator refuses."""

from edgefiqa.errors import ArtifactError

__all__ = ["UnsupportedOp"]


class UnsupportedOp(ArtifactError):
    """An op, or a parameter of one, that the evaluator does not know.

    Args:
        op_type: The op as MIL names it ("lstm").
        name: Name of the node in the program.
        reason: What about it is not supported, if it is not the op as a whole.
    """

    def __init__(self, op_type: str, name: str = "", reason: str = "") -> None:
        self.op_type = op_type
        super().__init__(
            f"the MIL evaluator does not know the op {op_type!r}"
            if not reason
            else f"the MIL evaluator does not support this use of the op {op_type!r} ({reason})",
            value=name or None,
            allowed="the ops of edgefiqa.runtimes.mil.table.OPS",
            next_step="run the package in Core ML on macOS, or add the op to its family's module",
        )
