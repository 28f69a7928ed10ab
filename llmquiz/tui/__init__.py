"""The terminal face of llmquiz: screens and widgets over the study session. The only room that knows Textual."""
