"""Anki both ways: packages read and written, note types and templates, and the schedule that travels along."""
