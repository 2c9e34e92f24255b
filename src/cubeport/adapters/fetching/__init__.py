"""Sources on other machines, one module for each kind. Fetched files are kept for the next attempt, and only the gate reads
them.
"""
