"""Decks as Anki packages: the .apkg writer, the note types, and the schedule that travels along."""
