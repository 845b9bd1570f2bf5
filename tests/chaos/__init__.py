"""Storms of faults on real processes, and the checker that says whether every promise held."""
