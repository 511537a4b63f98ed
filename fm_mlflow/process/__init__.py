"""This process among others: signals, identity, output, locks."""
