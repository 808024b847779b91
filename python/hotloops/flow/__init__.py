"""Flow matching: ODE integration of velocity networks and generation of single-cell counts."""

from __future__ import annotations

from hotloops.flow._autoencoder import CountAutoencoder
from hotloops.flow._cfgen import CFGen
from hotloops.flow._counts import bernoulli, gamma, negative_binomial, poisson
from hotloops.flow._decode import decode_counts
from hotloops.flow._guidance import GuidedVelocity, guided_velocity
from hotloops.flow._integrate import integrate
from hotloops.flow._log_prob import negative_binomial_log_prob
from hotloops.flow._matching import ConditionalFlowMatching
from hotloops.flow._network import VelocityNetwork
from hotloops.flow._result import IntegrationResult
from hotloops.flow._size_factors import SizeFactorModel

__all__ = [
    "CFGen",
    "ConditionalFlowMatching",
    "CountAutoencoder",
    "GuidedVelocity",
    "IntegrationResult",
    "SizeFactorModel",
    "VelocityNetwork",
    "bernoulli",
    "decode_counts",
    "gamma",
    "guided_velocity",
    "integrate",
    "negative_binomial",
    "negative_binomial_log_prob",
    "poisson",
]
