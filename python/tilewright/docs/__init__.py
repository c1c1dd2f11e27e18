"""The documentation site: hand-written pages, and pages made from the tables that the code itself works by.

`python -m tilewright.docs OUT` builds it (extra `docs`). What comes from where:

| pages | from |
|---|---|
| `pages/*.md` | written by hand; every code block in them is run by the tests |
| instructions, registers, host operators, overlays, errors | the tables of `targets/` and `errors.py` |
| commands | the command line's own options and help |
| Python reference | docstrings of the public names |
| architecture | the stages of `architecture.py`, which a test compares with the imports |
| tutorials | `tutorials/NN_*.py`, executed while the site is built |
| design notes | the READMEs of the folders |
"""
