"""Scores of one set of images against another."""
