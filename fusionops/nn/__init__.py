"""Modules over the operators, one file each."""
