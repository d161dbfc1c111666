"""Contrast pairs, and keep the neighbours that a frozen encoder sees."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ...featcache.errors import SpecError
from ...featcache.registry import unknown_name
from ..objective import Loss, Objective, PairBatch, at_least_float32
from ..preset import PLACES
from .clip import Clip

TEACHERS = ("text", "image", "both")
STUDENTS = ("across", "within")


class Distil(Objective):
    """Contrast pairs, and keep the neighbours that a frozen encoder sees.

    L = L_clip + weight * mean over rows of KL(softmax(A / t) || softmax(S / t)), t the temperature,
    of A, cosines of the frozen encoder's features, and S, cosines of the adapter's embeddings.

    `across`, S_ij is that of image i and text j, and the mean is half over images and half over
    texts. The `text` teacher has A_ij = mean over the texts k of image i of cos(f_k, f_j), the
    `image` teacher A_ij = mean over the images m of text j of cos(g_i, g_m), f and g the averaged
    tokens of texts and images; `both` is the mean of the two.

    `within`, S_jk is that of two texts, A_jk = cos(f_j, f_k), and an item is not compared with
    itself; the `image` teacher has two images, and `both` is the mean of both terms.

    Worked by hand: two orthogonal pairs with texts at cosine 1/2 for the teacher, t = 1, across.
    All rows have softmax(1, 1/2) = (0.6225, 0.3775) there and softmax(1, 0) = (0.7311, 0.2689)
    here: KL = 0.6225 log(0.6225 / 0.7311) + 0.3775 log(0.3775 / 0.2689) = 0.02796.

    Source: Hinton et al. 2015, arXiv 1503.02531, section 2, on cosines; soft targets across from
    similarities within one modality as in Gao et al. 2023, arXiv 2303.17561 (SoftCLIP), section 3;
    within, as in Fang et al. 2021, arXiv 2101.04731 (SEED), equation 4, on the batch in place of a
    queue. We differ from Hinton: no factor t^2, which is the weight's to give.

    Args:
        weight: Of the distillation; at least 0.
        temperature: t, in units of a cosine; positive.
        teacher: `text`, `image` or `both`; between two text encoders `text` is the second side
            and `image` the first. `first` and `second` are those of any two sides.
        student: `across` or `within`.
        scale_init: First value of the contrast's scale.
        scale_max: Upper bound of the scale.
        learnable: Whether the scale is trained.

    Raises:
        SpecError: An option is out of its range.
        UnknownNameError: There is no such teacher or student.
    """

    needs_teacher = True

    def __init__(
        self,
        *,
        weight: float = 1.0,
        temperature: float = 0.1,
        teacher: str = "text",
        student: str = "across",
        scale_init: float = 14.2857,  # 1 / 0.07
        scale_max: float = 100.0,
        learnable: bool = True,
    ) -> None:
        super().__init__()
        if weight < 0 or temperature <= 0:
            raise SpecError(
                "weight must be at least 0 and temperature positive, found "
                f"{weight} and {temperature}"
            )
        if teacher not in {*TEACHERS, *PLACES}:
            raise unknown_name("teacher", teacher, TEACHERS)
        teacher = PLACES.get(teacher, teacher)
        if student not in STUDENTS:
            raise unknown_name("student", student, STUDENTS)
        self.weight = weight
        self.temperature = temperature
        self.teachers = ("text", "image") if teacher == "both" else (teacher,)
        self.student = student
        self.contrast = Clip(scale_init=scale_init, scale_max=scale_max, learnable=learnable)

    def at_bound(self) -> str | None:
        """Return the bound that the scale has run into, in words, or None."""
        return self.contrast.at_bound()

    def forward(self, batch: PairBatch) -> Loss:
        """Return the loss; its parts are those of `clip` and `distillation`, unweighted."""
        contrast = self.contrast(batch)
        with torch.autocast(batch.first.device.type, enabled=False):
            distillation = self._across(batch) if self.student == "across" else self._within(batch)
        parts = {**contrast.parts, "distillation": distillation.detach()}
        return Loss(contrast.total + self.weight * distillation, parts)

    def _across(self, batch: PairBatch) -> Float[Tensor, ""]:
        assert batch.teacher is not None, "an objective that needs a teacher gets one"
        seen = []
        positives = batch.positives[:].to(batch.teacher.second.dtype)
        if "text" in self.teachers:
            texts = batch.teacher.second @ batch.teacher.second.T
            seen.append(positives / positives.sum(dim=1, keepdim=True) @ texts)
        if "image" in self.teachers:
            images = batch.teacher.first @ batch.teacher.first.T
            seen.append(images @ (positives / positives.sum(dim=0, keepdim=True)))
        teacher = torch.stack(seen).mean(dim=0)
        student = at_least_float32(batch.first) @ at_least_float32(batch.second).T
        return (self._divergence(teacher, student) + self._divergence(teacher.T, student.T)) / 2

    def _within(self, batch: PairBatch) -> Float[Tensor, ""]:
        assert batch.teacher is not None, "an objective that needs a teacher gets one"
        pairs = {
            "text": (batch.teacher.second, batch.second),
            "image": (batch.teacher.first, batch.first),
        }
        divergences = []
        for name in self.teachers:
            teacher, student = (at_least_float32(side) for side in pairs[name])
            divergences.append(self._divergence(_others(teacher), _others(student)))
        return torch.stack(divergences).mean()

    def _divergence(
        self, teacher: Float[Tensor, "rows columns"], student: Float[Tensor, "rows columns"]
    ) -> Float[Tensor, ""]:
        targets = functional.log_softmax(teacher / self.temperature, dim=1).to(student.dtype)
        log_probabilities = functional.log_softmax(student / self.temperature, dim=1)
        return functional.kl_div(log_probabilities, targets, reduction="batchmean", log_target=True)


def _others(values: Float[Tensor, "rows width"]) -> Float[Tensor, "rows rows_less_1"]:
    """Return the cosines of each row with all others, in order."""
    rows = len(values)
    cosines = values @ values.T
    apart = ~torch.eye(rows, dtype=torch.bool, device=values.device)
    return cosines[apart].reshape(rows, rows - 1)
