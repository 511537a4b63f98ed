"""Trainings that a script of somebody's own does: what logs them, and what it observes of them."""
