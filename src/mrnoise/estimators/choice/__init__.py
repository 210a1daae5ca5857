"""What to estimate noise with: cost of each way, colours of voxels, whether first order holds."""
