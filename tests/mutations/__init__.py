"""Breaks the engine on purpose, one small change at a time, to see that tests turn red. Not part of `make test`."""
