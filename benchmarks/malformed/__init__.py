"""What `fuzz.py` feeds to mrnoise: one function a kind of input, which makes one from random numbers."""
