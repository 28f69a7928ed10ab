"""The building blocks of a language model, written to be read: needs torch and nothing else of llmquiz.

Begin with `model/decoder.py`, then follow one token: `model/attention.py`, `cache/base.py`, `decode/generate.py`.
"""
