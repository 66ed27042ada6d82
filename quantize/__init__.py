"""INT8 after training."""
