"""What course notes work out by hand for a network: `analysis.py` computes it, `rendering.py` writes it."""
