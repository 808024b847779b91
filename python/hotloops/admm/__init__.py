"""Consensus ADMM for clients whose data differ, and its step for foreign gradients.

References
----------
S. Zhou, O. Wang, Z. Luo, Y. Zhu, G. Y. Li, "Preconditioned Inexact Stochastic ADMM for Deep
Models", Nature Machine Intelligence 2026, arXiv:2502.10784.
"""

from typing import TYPE_CHECKING, Any

from hotloops._runtime import optional
from hotloops.admm import partition
from hotloops.admm._baselines import BaselineResult, fedavg, fedprox, local_sgd, scaffold
from hotloops.admm._engine import Round
from hotloops.admm._losses import MLP, Huber, HuberHinge, Loss, Quantile
from hotloops.admm._nsisa_step import nsisa_step
from hotloops.admm._orthogonalize import orthogonalize
from hotloops.admm._result import AdmmResult
from hotloops.admm._schedules import Balancing, Geometric, LearningRate, Power, Schedule
from hotloops.admm._solve import solve
from hotloops.admm._state import AdmmState
from hotloops.admm._steps import sisa_finish, sisa_step, sisa_step_client

if TYPE_CHECKING:
    from hotloops.admm._estimators import ConsensusElasticNet as ConsensusElasticNet
    from hotloops.admm._estimators import ConsensusLasso as ConsensusLasso
    from hotloops.admm._estimators import ConsensusLinearSVC as ConsensusLinearSVC
    from hotloops.admm._estimators import (
        ConsensusLogisticRegression as ConsensusLogisticRegression,
    )
    from hotloops.admm._estimators import ConsensusMLPClassifier as ConsensusMLPClassifier
    from hotloops.admm._estimators import ConsensusRidge as ConsensusRidge

__all__ = [
    "MLP",
    "AdmmResult",
    "AdmmState",
    "Balancing",
    "BaselineResult",
    "Geometric",
    "Huber",
    "HuberHinge",
    "LearningRate",
    "Loss",
    "Power",
    "Quantile",
    "Round",
    "Schedule",
    "fedavg",
    "fedprox",
    "local_sgd",
    "nsisa_step",
    "orthogonalize",
    "partition",
    "scaffold",
    "sisa_finish",
    "sisa_step",
    "sisa_step_client",
    "solve",
]

_ESTIMATORS = (
    "ConsensusElasticNet",
    "ConsensusLasso",
    "ConsensusLinearSVC",
    "ConsensusLogisticRegression",
    "ConsensusMLPClassifier",
    "ConsensusRidge",
)


def __dir__() -> list[str]:
    return sorted({*globals(), *_ESTIMATORS})


def __getattr__(name: str) -> Any:
    """Import the estimators when they are asked for: they need scikit-learn."""
    return optional.estimator(__name__, _ESTIMATORS, "_estimators", name)
