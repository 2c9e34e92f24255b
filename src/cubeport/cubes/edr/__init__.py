"""The queries of OGC API EDR, one file for each kind.

A kind is an :class:`~cubeport.cubes.edr.query.EdrQuery`, and ``QUERIES`` in :mod:`cubeport.cubes.edr.queries` lists all kinds. The
routes, the OpenAPI definition, the links of a collection and the pygeoapi provider are made from this table.
"""
