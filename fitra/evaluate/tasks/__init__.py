"""Questions that are not a benchmark: what the small world asks, text held out from training."""
