"""Node types for gorax-engine: an example of a plug-in."""
