"""What a trained network has learnt and what it looks at: one file for each family of methods.

Every explanation is made twice, of the trained network and of the same network with weights drawn anew, as before
training: an explanation that is the same for both does not explain what was learnt (see `randomization.py`).
"""
