"""Readers and writers of noise maps."""
