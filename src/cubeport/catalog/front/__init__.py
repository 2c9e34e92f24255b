"""The methods of a catalog, in one class for each subject. ``Catalog`` combines them."""
