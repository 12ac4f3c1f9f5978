"""The parts of `benchmarks/paper_pdm.py`: one module a figure or table of the PDM paper."""
