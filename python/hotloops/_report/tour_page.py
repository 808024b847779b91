"""The page that the tour writes."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
import numpy.typing as npt

from hotloops._report import page, tour_intervals
from hotloops._report.axes import Axis
from hotloops._report.estimates import Uncertain, density
from hotloops._report.svg import Chart
from hotloops._report.tour import Outcome, table

_AVERAGING, _EXTRAPOLATION, _LARGER_STEP, _REFERENCE = 0, 1, 2, 4
_STRONG_ROWS = (8, 9)
_LEAD = (
    "Regularised logistic regression by ensembles of constant-step SGD chains, minibatch 1. "
    "Every chain runs two step sizes on the same draws; combining their averages removes the "
    "leading part of the bias."
)
_EXPLANATION = """
<p>With a constant step size γ an SGD chain does not settle at the minimiser θ* but in a cloud
around it, and the centre of the cloud is off by a term of order γ. The average A(γ) of the iterates
after the burn-in (Polyak–Ruppert) therefore has a <em>bias</em> that more chains and more steps
don't remove. The combination 2A(γ) − A(2γ) (Richardson–Romberg) cancels the part that is
proportional to γ. The exact minimiser comes from Newton's method in float64.</p>
<p>Bias is the Euclidean norm of the mean over chains, minus θ*. After ± stands the Monte-Carlo
standard error. The error of one chain is the root-mean-square distance of its extrapolated average
from θ*. The optimum of long runs is √(Tr Σ*/n); a run that is not long against the memory of its
chains can lie a little below.</p>
<p>One run tells its own precision as well: batches of its iterates give a 95 % interval for every
coefficient. The share of these intervals that cover the exact value, over all chains and
coefficients, is in the table. These runs have a stronger ridge and are longer, since batches must
be long against the memory of the chain, 1/(γ · ridge) steps.</p>
"""
_METHOD = """
<p>M. Sheshukova, D. Belomestny, A. Durmus, E. Moulines, A. Naumov, S. Samsonov:
<cite>Nonasymptotic Analysis of Stochastic Gradient Descent with the Richardson-Romberg
Extrapolation</cite>, ICLR 2025, <a href="https://arxiv.org/abs/2410.05106">arXiv:2410.05106</a>.</p>
<p>Data: Breast Cancer Wisconsin (Diagnostic), W. Wolberg et al. (1993),
<a href="https://doi.org/10.24432/C5DW2B">doi 10.24432/C5DW2B</a>; a9a, the binary coding by
J. Platt (LIBSVM Data) of Adult, B. Becker and R. Kohavi (1996),
<a href="https://doi.org/10.24432/C5XW20">doi 10.24432/C5XW20</a>. Both CC BY 4.0.</p>
"""


def build(
    outcomes: Sequence[Outcome],
    runtime: dict[str, object],
    command: str,
    more: Sequence[tuple[str, str]] = (),
) -> str:
    """Return the page as HTML; `more` sections, as (heading, html), come before the machine."""
    sections = [
        ("What came out", _EXPLANATION + page.table(table(outcomes), strong=_STRONG_ROWS)),
        ("Pictures", page.figures(pictures(outcomes))),
        ("Do it yourself", f"<pre>{escape(_code(outcomes[0]))}</pre>"),
        ("Method and data", _METHOD),
        *more,
        ("Where it ran", page.runtime_table(runtime)),
    ]
    version = runtime.get("hotloops", "")
    return page.document("hotloops tour", _LEAD, sections, f"hotloops {version} · {command}")


def pictures(outcomes: Sequence[Outcome]) -> list[tuple[str, str]]:
    """Return every picture with its caption."""
    drawn = [(bias_by_step_size(outcome), _CAPTION_BIAS) for outcome in outcomes]
    drawn += [(one_coefficient(outcome), _CAPTION_DENSITY) for outcome in outcomes]
    drawn += [(worst_coefficients(outcome), _CAPTION_COEFFICIENTS) for outcome in outcomes]
    first = outcomes[0]
    chart = tour_intervals.picture(first.experiment.title, first.names, first.intervals)
    drawn.append((chart, _CAPTION_INTERVALS.format(plan=first.intervals.plan)))
    return [(chart.svg(), caption) for chart, caption in drawn]


_CAPTION_BIAS = (
    "Averaging falls in proportion to the step size, extrapolation faster. An open mark with an "
    "arrow is an upper bound: the bias is lost in the Monte-Carlo noise."
)
_CAPTION_DENSITY = (
    "The averages of all chains for the coefficient with the largest bias. Each curve is the law "
    "of what one run of SGD would give you."
)
_CAPTION_COEFFICIENTS = (
    "The twelve coefficients with the largest bias: distance of the ensemble mean from the exact "
    "value."
)
_CAPTION_INTERVALS = (
    "95 % intervals from one pass of one chain, by batch means of the extrapolated path; ridge "
    "{plan.l2:g}, {plan.num_steps:,} averaged steps. About one in twenty should miss; coefficients "
    "of one run are not independent, so that misses come together."
)


def bias_by_step_size(outcome: Outcome) -> Chart:
    """Bias of averaging and of extrapolation against the step size."""
    title = f"{outcome.experiment.title}: bias against step size"
    chart = Chart(title, Axis("step size γ", log=True), Axis("norm of the bias", log=True))
    steps = [rung.step_size for rung in outcome.rungs]
    first = outcome.rungs[0]
    slope = [first.averaging.value * step / first.step_size for step in steps]
    chart.line(steps, slope, "in proportion to γ", _REFERENCE)
    pairs = [
        (rung.step_size, rung.extrapolation)
        for rung in outcome.rungs
        if rung.extrapolation is not None
    ]
    _norms(chart, steps, [rung.averaging for rung in outcome.rungs], "A(γ)", _AVERAGING)
    _norms(chart, [p[0] for p in pairs], [p[1] for p in pairs], "2A(γ) − A(2γ)", _EXTRAPOLATION)
    return chart


def _norms(
    chart: Chart, steps: Sequence[float], norms: Sequence[Uncertain], name: str, colour: int
) -> None:
    chart.points(
        steps,
        [norm.value for norm in norms],
        name,
        colour,
        error=[norm.error for norm in norms],
        open_points=[norm.bound for norm in norms],
        notes=[f"{name} at γ = {s:g}: {norm}" for s, norm in zip(steps, norms, strict=True)],
    )


def one_coefficient(outcome: Outcome) -> Chart:
    """How the averages of one coefficient spread over the chains."""
    which = int(np.argmax(np.abs(_bias(outcome.averages[:, 0], outcome))))
    small, large = outcome.experiment.step_sizes
    title = f"{outcome.experiment.title}: {outcome.names[which]}"
    chart = Chart(title, Axis("coefficient"), Axis("density over chains", include=[0.0]))
    curves = (
        (f"A({small:g})", _AVERAGING, outcome.averages[:, 0, which]),
        (f"A({large:g})", _LARGER_STEP, outcome.averages[:, 1, which]),
        ("extrapolated", _EXTRAPOLATION, outcome.extrapolated[:, which]),
    )
    everything = np.concatenate([samples for _, _, samples in curves])
    low, high = np.quantile(everything, [0.0005, 0.9995]).tolist()
    places = np.linspace(low, high, 160)
    for name, colour, samples in curves:
        height = density(samples, places)
        chart.line(places.tolist(), height.tolist(), name, colour, fill=True)
    chart.rule(float(outcome.exact[which]), "exact")
    return chart


def worst_coefficients(outcome: Outcome, count: int = 12) -> Chart:
    """Bias of the coefficients that averaging gets most wrong."""
    averaging = _bias(outcome.averages[:, 0], outcome)
    extrapolation = _bias(outcome.extrapolated, outcome)
    order = np.argsort(-np.abs(averaging))[:count]
    names = [outcome.names[i] for i in order]
    title = f"{outcome.experiment.title}: bias by coefficient"
    chart = Chart(title, Axis("estimate minus exact value"), Axis("", names=names), height=400.0)
    chart.rule(0.0)
    places = [float(place) for place in range(len(order))]
    for name, colour, bias in (
        ("averaging", _AVERAGING, averaging),
        ("extrapolation", _EXTRAPOLATION, extrapolation),
    ):
        notes = [f"{outcome.names[i]}: {bias[i]:+.4f}" for i in order]
        chart.points(bias[order].tolist(), places, name, colour, notes=notes)
    return chart


def _bias(rows: npt.NDArray[np.float64], outcome: Outcome) -> npt.NDArray[np.float64]:
    bias: npt.NDArray[np.float64] = rows.mean(axis=0) - outcome.exact
    return bias


def _code(outcome: Outcome) -> str:
    plan = outcome.experiment
    intervals = plan.intervals
    return f"""from hotloops import datasets, sgd

table = datasets.load_breast_cancer()
X = datasets.standardize(table.X, intercept=True)
problem = sgd.Logistic(X, table.y, l2={plan.l2:g})
run = sgd.run(problem, step_sizes={list(plan.step_sizes)}, num_steps={plan.num_steps:_},
              num_chains={plan.num_chains}, seed=2025, progress=True)

print(run.mean.mean(axis=0) - problem.minimizer())          # bias of averaging, by step size
print(run.extrapolated.mean(axis=0) - problem.minimizer())  # bias after extrapolation

problem = sgd.Logistic(X, table.y, l2={intervals.l2:g})
long = sgd.run(problem, step_sizes={list(intervals.step_sizes)}, num_steps={intervals.num_steps:_},
               burn_in={intervals.burn_in:_}, num_chains={intervals.num_chains}, seed=2025)
low, high = long.confidence_interval()  # (chains, coefficients)
exact = problem.minimizer()
print(((low <= exact) & (exact <= high)).mean())  # about 0.95"""
