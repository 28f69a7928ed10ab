"""How good a model is: its loss on text, counted so that two models can be compared."""
