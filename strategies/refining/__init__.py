"""Refining: versions of an answer, who criticises them, and how they are revised or tried again."""
