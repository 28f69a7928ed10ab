"""Cards from and to the text files of other programs; `llmquiz.anki` has the packages of Anki.

A reader makes an `llmquiz.store.incoming.Incoming` and touches no database: `llmquiz.store.intake` merges it.
"""
