"""Encodings of text: declared, guessed, and how sure that is."""
