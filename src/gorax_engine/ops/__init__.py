"""Running the engine: metrics, health and the duties of the leader."""
