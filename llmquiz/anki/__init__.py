"""Taking decks, with their schedule, to Anki."""
