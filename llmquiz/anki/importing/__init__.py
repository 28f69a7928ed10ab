"""From the records of a collection to what the store takes in."""
