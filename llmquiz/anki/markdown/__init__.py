"""What templates make of a note's fields, as Markdown of our dialect; nothing that acts gets through."""
