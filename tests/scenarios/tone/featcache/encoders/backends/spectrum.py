"""Spectra of tones, frame by frame."""

import numpy as np
import torch

from ...modalities.tone import FRAME
from ...tokens import Tokens
from ...types import Modality
from ..base import LAST, Encoder
from ..pooling import LayerLayout


class SpectrumEncoder(Encoder[np.ndarray]):
    """Return the amplitude of each frequency, a token a frame."""

    modalities = (Modality("tone"),)

    def identity(self):
        return {"backend": "spectrum", "frame": FRAME}

    def preprocess(self, content, *, item_id):
        return content.reshape(-1, FRAME)

    def encode(self, batch):
        longest = max(map(len, batch))
        values = torch.zeros(len(batch), longest, self.width)
        mask = torch.zeros(len(batch), longest, dtype=torch.bool)
        for row, frames in enumerate(batch):
            spectra = torch.fft.rfft(torch.from_numpy(frames.copy())).abs() * 2 / FRAME
            values[row, : len(frames)], mask[row, : len(frames)] = spectra, True
        return Tokens(values, mask)

    def layout(self, layer=LAST):
        return LayerLayout(width=self.width)

    def size(self, prepared):
        return len(prepared)
