"""Tests of the rewrites before quantisation."""
