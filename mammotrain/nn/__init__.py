"""Layers and solvers that models share."""
