"""Noise maps for any MRI reconstruction."""
