"""Maintenance of a catalog: doctor, fsck, gc, integrity of bytes, conversion between backends."""
