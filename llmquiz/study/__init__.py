"""What happens when a card is answered, and what is shown of it."""
