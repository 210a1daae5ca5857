"""Batches: how much at once, memory, time."""
