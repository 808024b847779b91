"""What every family shares in Python: dispatch, arrays, validation, threads, checkpoints."""
