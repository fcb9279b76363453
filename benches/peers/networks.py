"""StyleGAN2's generator and CLIP in PyTorch, written from the papers (Karras et al. 2020, "Analyzing and Improving the Image Quality of
StyleGAN"; Radford et al. 2021, "Learning transferable visual models from natural language supervision"), over tensors by name in the layouts of
rosinality's and OpenAI's files. Functions of tensors, so that a trained twin is other tensors."""
import math

import torch
import torch.nn.functional as F

BLUR = (1.0, 3.0, 3.0, 1.0)


def dense(x, weights, name, rate=1.0):
    """A linear layer with equalised learning rate: the weights are scaled by 1 / sqrt(inputs) when they are used."""
    weight = weights[f"{name}.weight"]
    return F.linear(x, weight * (rate / math.sqrt(weight.shape[1])), weights[f"{name}.bias"] * rate)


def activate(x):
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def mapping(weights, z):
    """z [n, 512] -> w [n, 512]."""
    x = z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8)
    layers = sum(1 for key in weights if key.startswith("style.") and key.endswith(".weight"))
    for i in range(1, layers + 1):
        x = activate(dense(x, weights, f"style.{i}", 0.01))
    return x


class Synthesis:
    """W+ [n, rows, 512] -> picture [n, 3, side, side].

    grouped: the paper's form, in which each picture of a batch has weights of its own, as groups of one convolution; else the input is
    scaled by the style and the output by the norm, and the batch shares the weights.
    channels_last: the memory format of features.
    """

    def __init__(self, grouped, channels_last):
        self.grouped = grouped
        self.format = torch.channels_last if channels_last else torch.contiguous_format

    def blur(self, x, pad, gain):
        """Filters every channel with BLUR in both directions, whose sum is `gain` in each."""
        taps = torch.tensor(BLUR) * (gain / sum(BLUR))
        kernel = torch.outer(taps, taps)[None, None]
        c = x.shape[1]
        return F.conv2d(F.pad(x, pad), kernel.expand(c, 1, 4, 4).contiguous(memory_format=self.format), groups=c)

    def convolution(self, x, weight, style, demodulate, up):
        """x [n, i, h, w], weight [1, o, i, k, k], style [n, i]."""
        n, i, h, w = x.shape
        _, o, _, k, _ = weight.shape
        scale = 1 / math.sqrt(i * k * k)
        if self.grouped:
            weight = weight * scale * style[:, None, :, None, None]
            if demodulate:
                weight = weight * torch.rsqrt(weight.square().sum((2, 3, 4), keepdim=True) + 1e-8)
            x = x.reshape(1, n * i, h, w).contiguous(memory_format=self.format)
            if up:
                weight = weight.transpose(1, 2).reshape(n * i, o, k, k)
                x = F.conv_transpose2d(x, weight, stride=2, groups=n)
            else:
                x = F.conv2d(x, weight.reshape(n * o, i, k, k), padding=k // 2, groups=n)
            x = x.reshape(n, o, *x.shape[2:]).contiguous(memory_format=self.format)
            return self.blur(x, (1, 1, 1, 1), 2.0) if up else x
        weight = weight[0] * scale
        x = x * style[:, :, None, None]
        if up:
            x = self.blur(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), (1, 1, 1, 1), 2.0)
        else:
            x = F.conv2d(x, weight, padding=k // 2)
        if demodulate:
            norm = torch.rsqrt(style.square() @ weight.square().sum((2, 3)).t() + 1e-8)
            x = x * norm[:, :, None, None]
        return x

    def layer(self, weights, name, x, w, noise, up=False):
        style = dense(w, weights, f"{name}.conv.modulation")
        x = self.convolution(x, weights[f"{name}.conv.weight"], style, True, up)
        return activate(x + weights[f"{name}.noise.weight"] * noise + weights[f"{name}.activate.bias"][:, None, None])

    def colours(self, weights, name, x, w, skip):
        style = dense(w, weights, f"{name}.conv.modulation")
        x = self.convolution(x, weights[f"{name}.conv.weight"], style, False, False) + weights[f"{name}.bias"]
        if skip is None:
            return x
        n, c, h, width = skip.shape
        apart = skip.new_zeros(n, c, h, 2, width, 2)
        apart[:, :, :, 0, :, 0] = skip
        return x + self.blur(apart.reshape(n, c, 2 * h, 2 * width), (2, 1, 2, 1), 2.0)

    def __call__(self, weights, wplus, noise):
        """noise: a map [n or 1, 1, h, w] a convolution."""
        n = wplus.shape[0]
        x = weights["input.input"].expand(n, -1, -1, -1).contiguous(memory_format=self.format)
        x = self.layer(weights, "conv1", x, wplus[:, 0], noise[0])
        skip = self.colours(weights, "to_rgb1", x, wplus[:, 1], None)
        for i in range((wplus.shape[1] - 2) // 2):
            row = 2 * i + 1
            x = self.layer(weights, f"convs.{2 * i}", x, wplus[:, row], noise[row], up=True)
            x = self.layer(weights, f"convs.{2 * i + 1}", x, wplus[:, row + 1], noise[row + 1])
            skip = self.colours(weights, f"to_rgbs.{i}", x, wplus[:, row + 2], skip)
        return skip


def noise_maps(side, n=1):
    """Of every convolution of a generator of `side` px."""
    sides = [4] + [s for level in range(3, side.bit_length()) for s in (1 << level,) * 2]
    return [torch.randn(n, 1, s, s) for s in sides]


def norm(x, weights, name):
    return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])


def transformer(x, weights, name, causal):
    """x [n, tokens, width]; heads of 64."""
    n, t, d = x.shape
    blocks = sum(1 for key in weights if key.startswith(f"{name}.resblocks.") and key.endswith(".ln_1.weight"))
    for i in range(blocks):
        b = f"{name}.resblocks.{i}"
        qkv = F.linear(norm(x, weights, f"{b}.ln_1"), weights[f"{b}.attn.in_proj_weight"], weights[f"{b}.attn.in_proj_bias"])
        q, k, v = qkv.reshape(n, t, 3, d // 64, 64).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).reshape(n, t, d)
        x = x + F.linear(y, weights[f"{b}.attn.out_proj.weight"], weights[f"{b}.attn.out_proj.bias"])
        y = F.linear(norm(x, weights, f"{b}.ln_2"), weights[f"{b}.mlp.c_fc.weight"], weights[f"{b}.mlp.c_fc.bias"])
        y = y * torch.sigmoid(1.702 * y)
        x = x + F.linear(y, weights[f"{b}.mlp.c_proj.weight"], weights[f"{b}.mlp.c_proj.bias"])
    return x


def embed_pictures(weights, x):
    """x [n, 3, side, side], normalised -> [n, embedding]."""
    x = F.conv2d(x, weights["visual.conv1.weight"], stride=weights["visual.conv1.weight"].shape[-1])
    x = x.flatten(2).transpose(1, 2)
    first = weights["visual.class_embedding"].expand(x.shape[0], 1, -1)
    x = norm(torch.cat([first, x], 1) + weights["visual.positional_embedding"], weights, "visual.ln_pre")
    x = transformer(x, weights, "visual.transformer", False)
    return norm(x[:, 0], weights, "visual.ln_post") @ weights["visual.proj"]


def embed_texts(weights, tokens):
    """tokens [n, context] -> [n, embedding]. The end token has the largest id."""
    x = weights["token_embedding.weight"][tokens] + weights["positional_embedding"][: tokens.shape[1]]
    x = norm(transformer(x, weights, "transformer", True), weights, "ln_final")
    return x[torch.arange(len(tokens)), tokens.argmax(1)] @ weights["text_projection"]


def clip_side(weights):
    patch = weights["visual.conv1.weight"].shape[-1]
    return patch * math.isqrt(weights["visual.positional_embedding"].shape[0] - 1)


def clip_input(weights, picture):
    """Pictures in [-1, 1] -> what CLIP takes."""
    side = clip_side(weights)
    x = F.interpolate(picture, (side, side), mode="bicubic", antialias=True)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    deviation = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    return ((x + 1) / 2 - mean) / deviation
