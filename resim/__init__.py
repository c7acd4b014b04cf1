"""ReSim: an action-conditioned video world model of driving."""

__version__ = "0.1.0"
