"""Tests of the quantiser."""
