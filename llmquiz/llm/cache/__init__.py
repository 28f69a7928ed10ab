"""Where attention keeps the keys and values of past tokens."""
