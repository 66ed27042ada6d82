"""How far a file's scores are from the float model's: overall, by stage, by layer."""
