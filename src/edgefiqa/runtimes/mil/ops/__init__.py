"""The kernels, one module per family of ops; each offers ``OPS``."""
