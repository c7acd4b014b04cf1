"""The pieces of the training loop: data, run (what is set up), steps (what a step is made of), log and validation."""
