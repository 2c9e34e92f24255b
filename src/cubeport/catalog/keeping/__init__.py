"""Keeping a catalog healthy: doctor, fsck, gc, integrity of bytes, conversion between backends."""
