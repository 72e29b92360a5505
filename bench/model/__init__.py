"""What a million viewers of one stream need, predicted from measured costs.

Two kinds of arithmetic: rates and sums in steady state (steady), and discrete events where order
makes the answer (release: one publish on one core; joining: a crowd at a cold POP). Pure functions
of the inputs; a seed where chance is drawn.
"""

from __future__ import annotations
