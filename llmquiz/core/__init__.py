"""The nouns that every room shares: cards, ratings, schedules, errors. No I/O, no screens."""
