"""The forward model: image to samples, and its normal equations."""
