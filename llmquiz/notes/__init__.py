"""What a note of Anki's shows: its templates filled with its fields, as Markdown; nothing that acts gets through.

A note is a row of fields, each of them HTML. Its note type says what they are called, and has a template, a front and a
back, for each card that is made of it; such a card is a face here. All of that comes from strangers.

`template` fills the sides (`sides`, `mustache`, `filters`, `clozes`) with fields that are harmless (`neutral`).
`markdown` reads the HTML that this gives (`tags`, `page`, `tables`, `blocks`) and the text in it (`flow`, `emphasis`,
`formulas`, `marks`). `words` and `glance` tell what a note is about, and what is wrong with it, without doing so.
"""
