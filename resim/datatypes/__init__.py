"""What the world is, in numpy alone: frames, roads, scenes, clips."""
