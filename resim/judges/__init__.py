"""Models that judge futures: where a video went, and what it is worth."""
