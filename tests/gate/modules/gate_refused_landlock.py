"""Imported by a template: a kernel whose Landlock refuses to confine."""

import errno

from cubeport.adapters.sandbox import landlock


def restrict(rules):
    raise OSError(errno.EPERM, "landlock: Operation not permitted")


landlock.restrict = restrict
