"""How long a file takes: rules, cells, rounds, targets, summaries."""
