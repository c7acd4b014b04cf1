"""Video2Reward: a future, seen, becomes a number."""
