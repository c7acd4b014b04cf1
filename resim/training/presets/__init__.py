"""Named training runs: the paper's, the tiny model's, and the ablations'."""
