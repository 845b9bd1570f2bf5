"""The bench: what the engine does per second on this machine, beside the limit of the same rows without an engine."""
