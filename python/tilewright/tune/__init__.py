"""The tuner: looks for a better plan than the planner's by measuring, in an order that a learned model proposes.

What is tuned is the plan of `codegen/plan.py`: where groups begin, stripes, strips, lag, and which maps stay on chip.
`space.py` says which plans there are and how to get from one to its neighbours; `search.py` and `ranking.py` choose
what to measure; `backends.py` measures, `local.py` and `remote.py` spread the work, and `log.py` keeps the results;
`tuner.py` puts it together.
"""
