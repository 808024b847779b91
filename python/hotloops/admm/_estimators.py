"""Models for scikit-learn whose rows belong to clients."""

from __future__ import annotations

from hotloops.admm._estimators_classification import (
    ConsensusLinearSVC,
    ConsensusLogisticRegression,
)
from hotloops.admm._estimators_network import ConsensusMLPClassifier
from hotloops.admm._estimators_regression import (
    ConsensusElasticNet,
    ConsensusLasso,
    ConsensusRidge,
)

__all__ = [
    "ConsensusElasticNet",
    "ConsensusLasso",
    "ConsensusLinearSVC",
    "ConsensusLogisticRegression",
    "ConsensusMLPClassifier",
    "ConsensusRidge",
]
