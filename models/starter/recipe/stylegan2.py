"""StyleGAN2 generator (equations of Karras et al. 2020), keys as in the rosinality port.

Modulation is applied to the input and demodulation to the output, which equals modulating the weight.
"""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F


def fir(taps=(1, 3, 3, 1)):
    taps = torch.tensor(taps, dtype=torch.float32)
    kernel = taps[None] * taps[:, None]
    return kernel / kernel.sum()


def blur(x, kernel, pad):
    channels = x.shape[1]
    x = F.pad(x, (pad[0], pad[1], pad[0], pad[1]))
    return F.conv2d(x, kernel.flip(0, 1)[None, None].repeat(channels, 1, 1, 1), groups=channels)


class Kernel(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.register_buffer('kernel', fir() * factor)


class PixelNorm(nn.Module):
    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)


class EqualLinear(nn.Module):
    def __init__(self, inputs, outputs, bias_init=0., lr_mul=1., act=False):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_mul)
        self.bias = nn.Parameter(torch.full((outputs,), float(bias_init)))
        self.scale = lr_mul / math.sqrt(inputs)
        self.lr_mul = lr_mul
        self.act = act

    def forward(self, x):
        y = F.linear(x, self.weight * self.scale, self.bias * self.lr_mul)
        return F.leaky_relu(y, 0.2) * math.sqrt(2) if self.act else y


class ModulatedConv(nn.Module):
    def __init__(self, inputs, outputs, size, style_dim, demodulate=True, up=False):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, outputs, inputs, size, size))
        self.modulation = EqualLinear(style_dim, inputs, bias_init=1.)
        self.scale = 1 / math.sqrt(inputs * size * size)
        self.size = size
        self.demodulate = demodulate
        self.up = up
        if up:
            self.blur = Kernel(4)

    def forward(self, x, w):
        style = self.modulation(w)
        weight = self.weight[0] * self.scale
        x = x * style[:, :, None, None]
        if self.up:
            x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
            x = blur(x, self.blur.kernel, (1, 1))
        else:
            x = F.conv2d(x, weight, padding=self.size // 2)
        if self.demodulate:
            d = torch.rsqrt(style.square() @ weight.square().sum((2, 3)).t() + 1e-8)
            x = x * d[:, :, None, None]
        return x


class Noise(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x, noise=None):
        if noise is False:
            return x
        if noise is None:
            noise = torch.randn(x.shape[0], 1, x.shape[2], x.shape[3])
        return x + self.weight * noise


class Activation(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        return F.leaky_relu(x + self.bias[None, :, None, None], 0.2) * math.sqrt(2)


class StyledConv(nn.Module):
    def __init__(self, inputs, outputs, style_dim, up=False):
        super().__init__()
        self.conv = ModulatedConv(inputs, outputs, 3, style_dim, up=up)
        self.noise = Noise()
        self.activate = Activation(outputs)

    def forward(self, x, w, noise):
        return self.activate(self.noise(self.conv(x, w), noise))


class ToRGB(nn.Module):
    def __init__(self, inputs, style_dim, up=True):
        super().__init__()
        self.conv = ModulatedConv(inputs, 3, 1, style_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
        self.upsample = Kernel(4) if up else None

    def forward(self, x, w, skip=None):
        y = self.conv(x, w) + self.bias
        if skip is not None:
            n, c, height, width = skip.shape
            wide = skip.new_zeros(n, c, height, 2, width, 2)
            wide[:, :, :, 0, :, 0] = skip
            y = y + blur(wide.view(n, c, 2 * height, 2 * width), self.upsample.kernel, (2, 1))
        return y


class Constant(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, channels, 4, 4))


class Generator(nn.Module):
    """`ch` maps each resolution, 4 to `size`, to its channels."""

    def __init__(self, size, ch, sd=128, n_mlp=4, lr_mul=0.01):
        super().__init__()
        self.size = size
        self.style = nn.Sequential(PixelNorm(), *[EqualLinear(sd, sd, lr_mul=lr_mul, act=True) for _ in range(n_mlp)])
        self.input = Constant(ch[4])
        self.conv1 = StyledConv(ch[4], ch[4], sd)
        self.to_rgb1 = ToRGB(ch[4], sd, up=False)
        self.convs = nn.ModuleList()
        self.to_rgbs = nn.ModuleList()
        self.noises = nn.Module()
        levels = int(math.log2(size))
        self.n_latent = 2 * levels - 2
        for layer in range((levels - 2) * 2 + 1):
            side = 2 ** ((layer + 5) // 2)
            self.noises.register_buffer(f'noise_{layer}', torch.randn(1, 1, side, side))
        inputs = ch[4]
        for level in range(3, levels + 1):
            outputs = ch[2 ** level]
            self.convs.append(StyledConv(inputs, outputs, sd, up=True))
            self.convs.append(StyledConv(outputs, outputs, sd))
            self.to_rgbs.append(ToRGB(outputs, sd))
            inputs = outputs

    def synth(self, w, noise=None, res=None):
        """w [n, sd] -> picture [n, 3, size, size], nominally in [-1, 1]; at side `res` where that is given.

        noise: None for the stored maps, False for none.
        """
        noises = [getattr(self.noises, f'noise_{i}') if noise is None else noise for i in range(len(self.convs) + 1)]
        x = self.input.input.repeat(w.shape[0], 1, 1, 1)
        x = self.conv1(x, w, noises[0])
        y = self.to_rgb1(x, w)
        for i in range(len(self.to_rgbs)):
            x = self.convs[2 * i](x, w, noises[2 * i + 1])
            x = self.convs[2 * i + 1](x, w, noises[2 * i + 2])
            y = self.to_rgbs[i](x, w, y)
            if res and y.shape[-1] == res:
                break
        return y

    def forward(self, z):
        return self.synth(self.style(z))
