"""KLOT: embeddings of unpaired items take on the transport plan of a teacher.

Axis names: `n` rows of the first side and `m` of the second, `block` of the first at a time,
`embed` features of an embedding.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..featcache.errors import SpecError
from .blocks import MOST_LOGITS
from .objective import Loss, Objective, PairBatch, at_least_float32


class Klot(Objective):
    """Divergence of the transport plan among embeddings from that of a teacher, without pairs.

    K = X Y^T are the cosines of all embeddings of one side with all of the other, K' those that the
    teacher gives the same items. P and P' are their entropic transport plans with uniform margins,
    which say how much of each item of one side goes to each of the other, and

    KLOT(K, K') = KL(P' | P) = sum_ij P'_ij (log P'_ij - log P_ij),  dKLOT/dK = (P - P') / t,

    t the temperature of P. The gradient is that of plans that have converged; none goes through
    the iterations. An objective without positives: those of its batch are not looked at.

    Worked by hand: one iteration is enough where K is the same from both sides. K = [[0, 0],
    [0, 0]] has P_ij = 1/4, K' = [[1, 0], [0, 1]] with t' = 1 has P' = 1/2 sigmoid(1) = 0.3655 on
    the diagonal and 0.1345 beside it, and KLOT = 0.7311 log 1.4621 + 0.2689 log 0.5379 = 0.1109.

    Up to `MOST_LOGITS` cosines stay in memory through the iterations. More are made again, block by
    block, in each: no tensor is larger, and four of that size, 192 MiB, are there at most.

    Source: Roschmann et al. 2026, arXiv 2602.23353, theorem 5.1; ExplainableML/SOTAlign at 4a810a1,
    src/klot.py (temperatures of 0.05 and 0.005, 100 iterations, margins met halfway at the end).

    Args:
        weight: Of the divergence in a loss; at least 0.
        temperature: t, in units of a cosine; positive. Their epsilon of the student.
        teacher_temperature: t', of the teacher's plan; positive.
        iterations: Of Sinkhorn, each of which meets both margins in turn; at least 1.

    Raises:
        SpecError: An option is out of its range.
    """

    needs_teacher = True
    most_logits = MOST_LOGITS

    def __init__(
        self,
        *,
        weight: float = 1.0,
        temperature: float = 0.05,
        teacher_temperature: float = 0.005,
        iterations: int = 100,
    ) -> None:
        super().__init__()
        temperatures = temperature, teacher_temperature
        # written so that NaN is none of them, either
        if not (0 <= weight < math.inf and all(0 < each < math.inf for each in temperatures)):
            raise SpecError(
                "KLOT needs a weight of at least 0 and positive temperatures, found "
                f"{weight}, {temperature} and {teacher_temperature}"
            )
        if iterations < 1:
            raise SpecError(f"KLOT needs at least one iteration, found {iterations}")
        self.weight = weight
        self.temperature = temperature
        self.teacher_temperature = teacher_temperature
        self.iterations = iterations

    def forward(self, batch: PairBatch) -> Loss:
        """Return the weighted divergence; its part `klot` is the divergence itself."""
        assert batch.teacher is not None, "an objective that needs a teacher gets one"
        # float32 even under autocast: at temperature 0.005 a cosine is multiplied by 200
        with torch.autocast(batch.first.device.type, enabled=False):
            taught = solve_transport(
                at_least_float32(batch.teacher.first),
                at_least_float32(batch.teacher.second),
                temperature=self.teacher_temperature,
                iterations=self.iterations,
            )
            divergence: Tensor = _Divergence.apply(
                at_least_float32(batch.first),
                at_least_float32(batch.second),
                taught,
                self.temperature,
                self.iterations,
            )
            total = self.weight * divergence
        return Loss(total, {"klot": divergence.detach()})


@dataclass(frozen=True)
class TransportPlan:
    """Entropic transport plan P_ij = exp(x_i . y_j / t + u_i + v_j), made when it is asked for.

    Attributes:
        rows: x of each row.
        columns: y of each column.
        temperature: t.
        of_rows: u, which lets each row of P add up to 1 / n.
        of_columns: v, which lets each column add up to 1 / m.
    """

    rows: Float[Tensor, "n embed"]
    columns: Float[Tensor, "m embed"]
    temperature: float
    of_rows: Float[Tensor, " n"]
    of_columns: Float[Tensor, " m"]

    def log(self, part: slice) -> Float[Tensor, "block m"]:
        """Return log P of some rows."""
        logits = self.rows[part] @ self.columns.T
        return (logits.div_(self.temperature)).add_(self.of_rows[part, None]).add_(self.of_columns)


@torch.no_grad()
def solve_transport(
    rows: Float[Tensor, "n embed"],
    columns: Float[Tensor, "m embed"],
    *,
    temperature: float,
    iterations: int,
) -> TransportPlan:
    """Solve the transport of equal masses on `rows` to equal masses on `columns`, by Sinkhorn.

    It maximises sum_ij P_ij x_i . y_j + t entropy(P). In the log domain, so that nothing underflows
    at a low temperature. In the end u is halfway to what it would be next, as published, so that
    the error of what has not converged is in both margins.

    Source: Cuturi 2013, arXiv 1306.0895, algorithm 1; in the log domain as in Peyre and Cuturi
    2019, arXiv 1803.00567, equations 4.43 and 4.44.

    Raises:
        SpecError: There are no rows or no columns.
    """
    if not len(rows) or not len(columns):
        raise SpecError(f"KLOT needs items of both sides, found {len(rows)} and {len(columns)}")
    log_row, log_column = -math.log(len(rows)), -math.log(len(columns))
    parts = _blocks(len(rows), len(columns))

    def scaled(part: slice) -> Float[Tensor, "block m"]:
        return (rows[part] @ columns.T).div_(temperature)

    whole = scaled(parts[0]) if len(parts) == 1 else None
    of_rows, of_columns = rows.new_zeros(len(rows)), columns.new_zeros(len(columns))
    for _ in range(iterations):
        sums = torch.full_like(of_columns, -math.inf)
        for part in parts:
            logits = scaled(part) if whole is None else whole
            of_rows[part] = log_row - (logits + of_columns).logsumexp(dim=1)
            sums = torch.logaddexp(sums, (logits + of_rows[part, None]).logsumexp(dim=0))
        of_columns = log_column - sums
    for part in parts:
        logits = scaled(part) if whole is None else whole
        following = log_row - (logits + of_columns).logsumexp(dim=1)
        of_rows[part] = (of_rows[part] + following) / 2
    return TransportPlan(rows, columns, temperature, of_rows, of_columns)


class _Divergence(torch.autograd.Function):
    """KL(P' | P) of a plan P' and the plan P of embeddings, with its gradient at both.

    The gradient is made with the value: what both need of the plans is there once.
    """

    @staticmethod
    def forward(
        context: Any,
        first: Float[Tensor, "n embed"],
        second: Float[Tensor, "m embed"],
        taught: TransportPlan,
        temperature: float,
        iterations: int,
    ) -> Float[Tensor, ""]:
        plan = solve_transport(first, second, temperature=temperature, iterations=iterations)
        divergence = first.new_zeros(())
        of_first, of_second = torch.empty_like(first), torch.zeros_like(second)
        for part in _blocks(len(first), len(second)):
            logs, taught_logs = plan.log(part), taught.log(part)
            target = taught_logs.exp()
            divergence = divergence + (target * taught_logs.sub_(logs)).sum()
            slopes = logs.exp_().sub_(target).div_(temperature)
            of_first[part] = slopes @ second
            of_second += slopes.T @ first[part]
        context.save_for_backward(of_first, of_second)
        return divergence

    @staticmethod
    @once_differentiable
    def backward(
        context: Any, gradient: Float[Tensor, ""]
    ) -> tuple[Float[Tensor, "n embed"], Float[Tensor, "m embed"], None, None, None]:
        of_first, of_second = context.saved_tensors
        return gradient * of_first, gradient * of_second, None, None, None


def _blocks(num_rows: int, num_columns: int) -> list[slice]:
    size = max(1, MOST_LOGITS // num_columns)
    return [slice(start, min(start + size, num_rows)) for start in range(0, num_rows, size)]
