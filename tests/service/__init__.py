"""Tests of the whole service: a stack of real servers and workers. Slow tier."""
