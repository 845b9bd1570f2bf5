"""Node types: the public API for them, the registry, and the built-in ones."""
