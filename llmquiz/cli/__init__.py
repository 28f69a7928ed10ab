"""The commands; each is a headless twin of a screen."""
