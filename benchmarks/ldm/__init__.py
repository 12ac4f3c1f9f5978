"""The parts of `benchmarks/paper_ldm.py`: what is trained, what is measured of it, and the figures."""
