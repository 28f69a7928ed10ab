"""What a note of Anki's shows: its templates filled with its fields, as Markdown; nothing that acts gets through."""
