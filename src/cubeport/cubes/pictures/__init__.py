"""Pictures of slices: the cell of each pixel, its colour, and the PNG. Pure functions of numpy arrays.

Each pixel shows the stored value of the cell that contains its centre. Nothing is smoothed.
"""
