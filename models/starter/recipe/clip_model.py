"""A small CLIP with the keys of Hugging Face's CLIPModel (ViT, pre-norm layers, quick GELU)."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

# Colours enter as (x - MEAN) / .5 for x in [0, 1].
MEAN = torch.tensor([.5, .5, .5]).view(1, 3, 1, 1)


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x, causal):
        n, tokens, width = x.shape

        def heads(layer):
            return layer(x).view(n, tokens, self.heads, width // self.heads).transpose(1, 2)

        y = F.scaled_dot_product_attention(heads(self.q_proj), heads(self.k_proj), heads(self.v_proj), is_causal=causal)
        return self.out_proj(y.transpose(1, 2).reshape(n, tokens, width))


class MLP(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x):
        x = self.fc1(x)
        return self.fc2(x * torch.sigmoid(1.702 * x))


class Layer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.layer_norm1 = nn.LayerNorm(width)
        self.mlp = MLP(width)
        self.layer_norm2 = nn.LayerNorm(width)

    def forward(self, x, causal):
        x = x + self.self_attn(self.layer_norm1(x), causal)
        return x + self.mlp(self.layer_norm2(x))


class Encoder(nn.Module):
    def __init__(self, width, heads, layers):
        super().__init__()
        self.layers = nn.ModuleList([Layer(width, heads) for _ in range(layers)])

    def forward(self, x, causal):
        for layer in self.layers:
            x = layer(x, causal)
        return x


class TextEmbeddings(nn.Module):
    def __init__(self, vocab, width, context):
        super().__init__()
        self.token_embedding = nn.Embedding(vocab, width)
        self.position_embedding = nn.Embedding(context, width)
        nn.init.normal_(self.token_embedding.weight, 0, .02)
        nn.init.normal_(self.position_embedding.weight, 0, .01)


class TextModel(nn.Module):
    def __init__(self, vocab, width, heads, layers, context):
        super().__init__()
        self.embeddings = TextEmbeddings(vocab, width, context)
        self.encoder = Encoder(width, heads, layers)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, ids, end):
        x = self.embeddings.token_embedding(ids) + self.embeddings.position_embedding.weight[:ids.shape[1]]
        x = self.final_layer_norm(self.encoder(x, True))
        return x[torch.arange(len(ids)), (ids == end).int().argmax(1)]


class VisionEmbeddings(nn.Module):
    def __init__(self, width, patch, positions):
        super().__init__()
        self.class_embedding = nn.Parameter(torch.randn(width) * .02)
        self.patch_embedding = nn.Conv2d(3, width, patch, patch, bias=False)
        self.position_embedding = nn.Embedding(positions, width)
        nn.init.normal_(self.position_embedding.weight, 0, .02)


class VisionModel(nn.Module):
    def __init__(self, width, heads, layers, patch=8, side=64):
        super().__init__()
        self.embeddings = VisionEmbeddings(width, patch, (side // patch) ** 2 + 1)
        self.pre_layrnorm = nn.LayerNorm(width)  # spelt so in CLIPModel
        self.encoder = Encoder(width, heads, layers)
        self.post_layernorm = nn.LayerNorm(width)

    def forward(self, x):
        e = self.embeddings
        tokens = e.patch_embedding(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([e.class_embedding.expand(len(x), 1, -1), tokens], 1) + e.position_embedding.weight
        return self.post_layernorm(self.encoder(self.pre_layrnorm(tokens), False)[:, 0])


class CLIP(nn.Module):
    def __init__(self, vocab, width=128, layers=4, text_width=128, text_layers=3, projection=128, context=24):
        super().__init__()
        self.text_model = TextModel(vocab, text_width, text_width // 32, text_layers, context)
        self.vision_model = VisionModel(width, width // 32, layers)
        self.visual_projection = nn.Linear(width, projection, bias=False)
        self.text_projection = nn.Linear(text_width, projection, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(10.)))

    def img(self, x):
        """x [n, 3, 64, 64], normalised colours -> normalised embeddings."""
        return F.normalize(self.visual_projection(self.vision_model(x)), dim=-1)

    def txt(self, ids, end):
        return F.normalize(self.text_projection(self.text_model(ids, end)), dim=-1)
