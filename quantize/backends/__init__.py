"""One module a format: each carries a plan of int8 layers into a file."""
