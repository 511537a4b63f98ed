"""From plain records of runs to a decision: statistics, trade-offs, verdict. Pure, no I/O."""
