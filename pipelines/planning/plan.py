"""Plan the memory of a training before it begins, and find what fits a budget."""

from ...adapters.preset import preset_of
from ...featcache.config import to_table
from ...featcache.errors import OutOfMemoryError
from ...featcache.memory_errors import lack_of_memory
from ..common.byte_sizes import parse_bytes
from .measure import measure
from .planned_steps import memory_of, planned_step
from .spec import MemoryPlan, PlanSpec


def run(spec: PlanSpec) -> MemoryPlan:
    """Predict the peak of memory of one training, and measure it if asked.

    Raises:
        SpecError: The preset cannot be trained in steps, an option is wrong, or this system does
            not say how much memory a process takes.
        UnknownNameError: There is no such preset, fusion, part or encoder.
        OutOfMemoryError: The measured steps do not fit, or what is planned is too large to measure.
    """
    # first, so that a wrong size is told before steps are taken
    budget = None if spec.budget is None else parse_bytes(spec.budget)
    step = planned_step(spec)
    options, shape = step.options, step.shape
    images = options.mixup.mixtures(options.batch_size)
    try:
        memory = memory_of(step)
        peak = memory.peak(images, options.chunk_size)
        largest = None if budget is None else memory.largest_chunk(images, budget)
    except (MemoryError, RuntimeError) as error:
        if lack_of_memory(error) is None:
            raise
        raise OutOfMemoryError(
            "what is planned is measured at a small size, and that does not fit this machine: "
            f"{str(error).splitlines()[0]:.200}; lower the tokens, the captions or train.queue"
        ) from error
    image, text = (f"{shape.tokens[side]} x {shape.width(side)}" for side in shape.sides)
    return MemoryPlan(
        spec={
            **to_table(spec),
            "preset": preset_of(spec.preset, spec.fusion),
            "batch_size": options.batch_size,
            "chunk_size": options.chunk_size,
            "optimiser": options.optimiser,
            "image": image,
            "text": text,
            "texts_of_an_image": shape.texts,
        },
        parameters=memory.num_parameters,
        predicted=peak,
        fits=None if budget is None else peak.total <= budget,
        largest_chunk=largest,
        measured=measure(spec, step.device.type) if spec.measure else None,
        memory="process" if step.device.type == "cpu" else "GPU",
    )
