"""How far the MIL reference evaluator can be trusted."""
