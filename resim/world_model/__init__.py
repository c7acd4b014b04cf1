"""World model: trajectory encoder, transformer, diffusion maths, losses, pipeline."""
