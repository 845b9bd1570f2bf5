"""Secrets: sealed in the database, opened at the last moment, and taken out of everything that is shown."""
