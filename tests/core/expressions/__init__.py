"""Tests of the expression and template language."""
