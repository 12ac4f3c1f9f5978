"""The parts of `benchmarks/paper_patch_dm.py`: what is compared, how it is trained, and what is said of it."""
