"""Fewer bits a number: what they save in bytes and in time, and what they cost in quality.

Begin with `int8.py`: who may share a scale is the question that all the others answer in their own way.
"""
