"""Makes affine_sample.safetensors: torch's grid_sample(affine_grid) with reflected borders, and its gradient."""
import math
import os

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

g = torch.Generator().manual_seed(1)
x = torch.randn(4, 2, 7, 9, generator=g, requires_grad=True)
r, s = math.radians(20), 1.3
theta = torch.tensor([
    [[1, 0, 0], [0, 1, 0]],
    [[math.cos(r) * s, -math.sin(r) * s, 0.1], [math.sin(r) * s, math.cos(r) * s, -0.3]],
    [[-0.7, 0.2, 0.4], [0.1, 0.6, 0]],
    [[2.5, 0, 1.5], [0, 3.5, -2.2]],
])
y = F.grid_sample(x, F.affine_grid(theta, x.shape, align_corners=False), padding_mode="reflection", align_corners=False)
w = torch.cos(torch.arange(y.numel(), dtype=torch.float32)).reshape(y.shape)
(y * w).sum().backward()
save_file({"x": x.detach(), "theta": theta, "y": y.detach(), "gradient": x.grad},
          os.path.join(os.path.dirname(os.path.abspath(__file__)), "affine_sample.safetensors"))
