"""Imported by a template: a kernel without Landlock."""

from cubeport.adapters.sandbox import landlock

landlock.abi = lambda: 0
