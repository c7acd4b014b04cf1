"""The parts of ``benchmarks/gpu.py``: functions of ``dry_run`` that return what they found, or raise."""
