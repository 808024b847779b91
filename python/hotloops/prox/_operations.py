"""The numbers under which the kernels know the operations; as in ``csrc/prox``."""

from __future__ import annotations

# Of single elements.
SOFT, ELASTIC, SCALE, CLIP, FIRM, HUBER, HINGE, LOGISTIC, LOG_SUM = range(9)
# Of rows.
SIMPLEX, L1_BALL, L_INF, L2_BALL, CONE = range(5)
