"""Makes the PyTorch files in this folder (torch 2.15, CPU). Each is small; expected.safetensors holds what they must read as.

    python make_torch_files.py
"""

import argparse
import collections
import os
import pathlib
import zipfile

import numpy as np
import torch
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
torch.manual_seed(0)
expected = {}


def net():
    return torch.nn.Sequential(collections.OrderedDict(conv=torch.nn.Conv2d(2, 3, 3), linear=torch.nn.Linear(4, 2, bias=False)))


# The layout of rosinality's train.py: networks, optimiser states (with step counts and moments), arguments.
g, d, g_ema = net(), net(), net()
optim = torch.optim.Adam(g.parameters(), lr=0.002, betas=(0.0, 0.99))
(g.conv(torch.ones(1, 2, 3, 3)).sum() + g.linear(torch.ones(1, 4)).sum()).backward()
optim.step()
args = argparse.Namespace(path="lmdb", size=64, lr=0.002, channel_multiplier=2, local_rank=0, augment=False, ckpt=None)
torch.save(
    {
        "g": g.state_dict(),
        "d": d.state_dict(),
        "g_ema": g_ema.state_dict(),
        "g_optim": optim.state_dict(),
        "args": args,
        "ada_aug_p": 0.25,
        "iter_numpy": np.float64(3.5),
        "seen": {1, 2},
    },
    HERE / "trainer.pt",
)
for name, module in [("g", g), ("d", d), ("g_ema", g_ema)]:
    for key, value in module.state_dict().items():
        expected[f"trainer.{name}.{key}"] = value
expected["trainer.g_optim.state.0.exp_avg_sq"] = optim.state_dict()["state"][0]["exp_avg_sq"]

# Views that share one storage, with offsets, strides, a broadcast; all element types; a parameter.
base = torch.arange(60, dtype=torch.float32).reshape(3, 4, 5) / 7
views = {
    "whole": base,
    "transposed": base.permute(2, 0, 1),
    "slice": base[1:, ::2, 1:4],
    "broadcast": base[0, 0, :1].expand(3, 5),
    "column": base[:, 1:2, 3],
    "channels_last": torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
    "parameter": torch.nn.Parameter(torch.randn(3)),
    "scalar": torch.tensor(2.5, dtype=torch.float64),
    "empty": torch.zeros(0, 3),
    "f16": torch.randn(5).half(),
    "bf16": torch.randn(5).bfloat16(),
    "f64": torch.randn(5).double(),
    "i64": torch.tensor([-(2**40), 7]),
    "i32": torch.tensor([-5, 7], dtype=torch.int32),
    "i16": torch.tensor([-5, 7], dtype=torch.int16),
    "i8": torch.tensor([-5, 7], dtype=torch.int8),
    "u8": torch.tensor([200, 7], dtype=torch.uint8),
    "bool": torch.tensor([True, False]),
}
torch.save(views, HERE / "views.pt")
for key, value in views.items():
    expected[f"views.{key}"] = value.detach()

# The same again, compressed by a zip program.
with zipfile.ZipFile(HERE / "views.pt") as source, zipfile.ZipFile(HERE / "views_deflated.pt", "w", zipfile.ZIP_DEFLATED) as target:
    for item in source.infolist():
        target.writestr(item.filename, source.read(item))

# Newer pickle protocols.
torch.save({"a": {"b": views["slice"]}}, HERE / "protocol4.pt", pickle_protocol=4)


# TorchScript, nested.
class Inner(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(2, 3).half())
        self.register_buffer("steps", torch.tensor(5))

    def forward(self, x):
        return x @ self.weight.float()


class Outer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = torch.nn.Sequential(Inner(), torch.nn.LayerNorm(3))
        self.scale: float = 1.5
        self.size: int = 7

    def forward(self, x):
        return self.blocks(x) * self.scale + self.size


outer = Outer().eval()
torch.jit.save(torch.jit.script(outer), str(HERE / "script.pt"))
for key, value in outer.state_dict().items():
    expected[f"script.{key}"] = value


# What must be refused: a pickled module, a call.
torch.save(Inner(), HERE / "module.pt")


class Call:
    def __reduce__(self):
        return os.system, ("echo run > pwned",)


torch.save({"weight": torch.ones(2), "call": Call()}, HERE / "call.pt")
torch.save({"weight": torch.ones(2)}, HERE / "legacy.pt", _use_new_zipfile_serialization=False)
torch.save({"weight": torch.tensor([1.0, float("nan")]), "inf": torch.tensor([1.0, 1e39], dtype=torch.float64)}, HERE / "nan.pt")

# The name makes an entry's header as long as the archive's zip64 end records, which readers have mistaken for something else.
torch.save({"weight": torch.ones(2)}, HERE / "twenty_one_characters.pt")

np.save(HERE / "f4.npy", np.arange(6, dtype="<f4").reshape(2, 3) / 3)
np.save(HERE / "f8_fortran.npy", np.asfortranarray(np.arange(24, dtype="<f8").reshape(2, 3, 4) / 3))
np.save(HERE / "big_endian.npy", np.arange(3, dtype=">f4"))

save_file({key: value.contiguous().clone() for key, value in expected.items()}, HERE / "expected.safetensors")
