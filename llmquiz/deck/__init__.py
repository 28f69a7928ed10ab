"""Decks: reading, checking and printing cards."""
