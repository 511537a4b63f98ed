"""Trainings in processes of their own: where they run, and the loop over them."""
