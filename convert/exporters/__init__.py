"""One module a target: each turns an ``ExportScorer`` into files of one format."""
