"""The training step of the benchmark `train` in PyTorch (BSD-3-Clause), eager mode.

Usage: step.py THREADS. Reads a number of steps per line, answers with the seconds that they took.
The model has the shapes of ours: a linear layer for query, key and value without bias, fused attention,
an MLP of 512 with GELU in its tanh form, norms with bias, a head that is not tied to the embedding.
"""

import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

WIDTH, HEADS, LAYERS, CONTEXT, BATCH, VOCABULARY = 128, 4, 4, 64, 12, 65


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        batch, tokens, _ = x.shape
        heads = [
            part.view(batch, tokens, HEADS, WIDTH // HEADS).transpose(1, 2)
            for part in self.qkv(self.norm1(x)).split(WIDTH, dim=2)
        ]
        mixed = F.scaled_dot_product_attention(*heads, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, tokens, WIDTH))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.token, self.position = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*[Block() for _ in range(LAYERS)])
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, ids, targets):
        x = self.token(ids) + self.position.weight
        logits = self.head(self.norm(self.blocks(x)))
        return F.cross_entropy(logits.view(-1, VOCABULARY), targets.view(-1))


def main():
    torch.set_num_threads(int(sys.argv[1]))
    torch.manual_seed(1)
    model = Model()
    decayed = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}],
        lr=2e-3,
        betas=(0.9, 0.99),
        fused=True,
    )
    text = torch.randint(VOCABULARY, (100_000,))
    for line in sys.stdin:
        begin = time.perf_counter()
        for _ in range(int(line)):
            starts = torch.randint(len(text) - CONTEXT, (BATCH,)).tolist()
            ids = torch.stack([text[i : i + CONTEXT] for i in starts])
            targets = torch.stack([text[i + 1 : i + 1 + CONTEXT] for i in starts])
            loss = model(ids, targets)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            if not torch.isfinite(loss):
                sys.exit("the loss is not finite")
        print(time.perf_counter() - begin, flush=True)


main()
