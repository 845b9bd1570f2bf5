"""Workflows as documents: saving, checking, publishing and versioning definitions."""
