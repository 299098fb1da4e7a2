"""From the value heads' tensors to the parameters of a law.

Legend: B rows, C cuts, H horizons, J hazard bins.
"""

from __future__ import annotations

import numpy as np
import torch

from recsys.nn.value_heads import ValueOutput
from recsys.valuation.law import ValueParameters


def value_parameters(output: ValueOutput) -> ValueParameters:
    """Of one cut a row: heads of shape (B, C, ...) -> float64 rows (B x C, ...)."""

    def rows(values: torch.Tensor, *shape: int) -> np.ndarray:
        return values.detach().double().cpu().numpy().reshape(-1, *shape)

    num_horizons, num_bins = output.mu_BCH.shape[-1], output.hazard_logit_BCJ.shape[-1]
    payer = torch.sigmoid(output.payer_logit_BCH.double())
    mean = payer * torch.exp(output.mu_BCH.double() + output.sigma_BCH.double() ** 2 / 2)
    return ValueParameters(
        payer_UH=rows(payer, num_horizons),
        mean_UH=rows(mean, num_horizons),
        sigma_UH=rows(output.sigma_BCH, num_horizons),
        hazard_UJ=rows(torch.sigmoid(output.hazard_logit_BCJ.double()), num_bins),
        conversion_U=rows(torch.sigmoid(output.conversion_logit_BC.double())),
    )
