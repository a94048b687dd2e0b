"""Counts of an evaluation, over threads and processes, and the figures made of them."""
