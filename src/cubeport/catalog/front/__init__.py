"""What a catalog can do, a class for each subject; ``Catalog`` is all of them."""
