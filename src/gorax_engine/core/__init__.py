"""The pure heart of the engine: no clock, no I/O, no randomness."""
