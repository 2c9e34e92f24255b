"""Pictures of slices: where each pixel is in the data, its colour, and the PNG. Pure functions of numpy arrays.

Each colour is that of a stored value: the one of the cell that contains the pixel's centre. Nothing is smoothed.
"""
