"""The commands of ``python -m ebm_core``: each takes parsed options, and says what it found."""
