"""Pure rendering: results in, text and pictures out."""
