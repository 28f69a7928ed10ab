"""An .apkg or .colpkg file as records: bounded, checked, whatever a stranger put into it."""
