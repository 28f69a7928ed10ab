"""From the store to an .apkg file: note types, notes, schedules, pictures, and imported notes as they were."""
