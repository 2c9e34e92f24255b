"""Queries of OGC API EDR, one file a kind: a place is compared with a cube like any other selection.

A kind is an :class:`~cubeport.cubes.edr.query.EdrQuery`, and ``QUERIES`` in :mod:`cubeport.cubes.edr.queries` lists them: the
routes, the OpenAPI definition, the links of a collection and the provider of pygeoapi are all made from that table.
"""
