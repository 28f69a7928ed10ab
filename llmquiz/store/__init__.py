"""The database: cards by stable id, schedules, an append-only review log, lab runs."""
