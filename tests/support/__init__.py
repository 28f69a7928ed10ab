"""What tests of several rooms build: cards, decks, a clock."""
