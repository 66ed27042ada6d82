"""The parts of the command ``edgefiqa``, one module a group of commands."""
